//! `struct iovec`, `struct msghdr`, `struct mmsghdr`: see recvmsg(2), cmsg(3).

use super::reader::Reader;
use super::{ADDRESS_MAX, DATA_MAX, Outcome, number};
use crate::event::{Defect, Message, SocketAddress, Value};

/// `UIO_MAXIOV`: most vectors of a message and most messages of a call. The
/// kernel refuses more vectors, and sends no more messages than this.
const VECTORS_MAX: u64 = 1024;
/// Most bytes of control data that are looked at.
const CONTROL_MAX: usize = 4096;
/// Largest control data that the kernel takes (`INT_MAX`).
const CONTROL_LENGTH_MAX: u64 = i32::MAX as u64;
/// `SCM_RIGHTS`: descriptors are passed.
const SCM_RIGHTS: u64 = 1;

/// What is left to be read of one call. All messages have their address and
/// descriptors looked at, or a call could hide one behind others; the data of
/// those that come late is left out.
pub(super) struct Budget {
    data: usize,
    vectors: u64,
}

impl Budget {
    /// For one message.
    pub(super) fn one() -> Self {
        Self { data: DATA_MAX, vectors: VECTORS_MAX }
    }

    /// For the messages of one call.
    fn all() -> Self {
        Self { data: 64 * DATA_MAX, vectors: 4 * VECTORS_MAX }
    }
}

/// A `struct msghdr`.
struct Header {
    name: u64,
    name_length: i32,
    vectors: u64,
    vector_count: u64,
    control: u64,
    control_length: u64,
}

impl Reader<'_> {
    /// What sendmsg(2) is given at `address`.
    pub(super) fn message(&self, address: u64) -> Outcome<Message> {
        let header = self.bytes(address, self.header_size(), DATA_MAX)?;
        self.sent(&self.header(&header), &mut Budget::one())
    }

    /// What sendmmsg(2) is given at `address`.
    pub(super) fn messages(&self, address: u64, count: u64) -> Outcome {
        // After `struct msghdr` comes an `unsigned int`, padded to a word.
        let size = self.header_size() + self.width() as u64;
        let count = count.min(VECTORS_MAX);
        let headers = self.bytes(address, count * size, usize::MAX)?;
        let mut budget = Budget::all();
        let messages = headers.chunks_exact(size as usize).map(|header| self.sent(&self.header(header), &mut budget));
        Ok(Value::Messages(messages.collect::<Outcome<_>>()?))
    }

    /// What recvmsg(2) left at `address`, with `size` bytes of data.
    pub(super) fn received(&self, address: u64, size: u64) -> Outcome<Message> {
        let header = self.header(&self.bytes(address, self.header_size(), DATA_MAX)?);
        let (mut data, truncated) = self.vectors(header.vectors, header.vector_count, &mut Budget::one())?;
        let truncated = truncated && size > data.len() as u64;
        data.truncate(usize::try_from(size).unwrap_or(usize::MAX));
        let (descriptors, more) = self.descriptors(&header)?;
        let address = if header.name_length > 0 { self.address(&header)? } else { None };
        Ok(Message { address, data: data.into(), truncated: truncated || more, descriptors })
    }

    fn sent(&self, header: &Header, budget: &mut Budget) -> Outcome<Message> {
        let address = self.address(header)?;
        let (data, truncated) = self.vectors(header.vectors, header.vector_count, budget)?;
        let (descriptors, more) = self.descriptors(header)?;
        Ok(Message { address, data: data.into(), truncated: truncated || more, descriptors })
    }

    /// The kernel cuts a name that is too long and refuses a negative length
    /// (`__copy_msghdr` in net/socket.c).
    fn address(&self, header: &Header) -> Outcome<Option<SocketAddress>> {
        if header.name == 0 {
            return Ok(None);
        }
        let length = u64::try_from(header.name_length).map_err(|_| Defect::Malformed)?;
        if length == 0 {
            return Ok(None);
        }
        Ok(Some(SocketAddress { data: self.bytes(header.name, length, ADDRESS_MAX)?.into() }))
    }

    /// The first bytes of what `count` vectors hold, and whether there are
    /// more.
    pub(super) fn vectors(&self, address: u64, count: u64, budget: &mut Budget) -> Outcome<(Vec<u8>, bool)> {
        if count > VECTORS_MAX {
            return Err(Defect::Malformed);
        }
        let looked_at = count.min(budget.vectors);
        budget.vectors -= looked_at;
        let mut truncated = looked_at < count;
        let width = self.width();
        let table = self.bytes(address, looked_at * 2 * width as u64, usize::MAX)?;
        let mut data = Vec::new();
        for vector in table.chunks_exact(2 * width) {
            let length = self.word(vector, width);
            if length > i64::MAX as u64 {
                return Err(Defect::Malformed);
            }
            let room = budget.data.min(DATA_MAX - data.len());
            truncated |= length > room as u64;
            if length > 0 && room > 0 {
                let piece = self.bytes(self.word(vector, 0), length, room)?;
                budget.data -= piece.len();
                data.extend_from_slice(&piece);
            }
        }
        Ok((data, truncated))
    }

    /// Descriptors in the control data, and whether there is control data that
    /// was not looked at.
    fn descriptors(&self, header: &Header) -> Outcome<(Vec<i32>, bool)> {
        if header.control == 0 || header.control_length == 0 {
            return Ok((Vec::new(), false));
        }
        if header.control_length > CONTROL_LENGTH_MAX {
            return Err(Defect::Malformed);
        }
        let data = self.bytes(header.control, header.control_length, CONTROL_MAX)?;
        let more = header.control_length > CONTROL_MAX as u64;
        let mut descriptors = Vec::new();
        let mut rest = data.as_slice();
        let start = self.width() + 8;
        while rest.len() >= start {
            let length = usize::try_from(self.word(rest, 0)).unwrap_or(usize::MAX);
            // The kernel refuses such control data (`CMSG_OK`), or has no use for any.
            if length < start || length > rest.len() && !more {
                break;
            }
            let level = number(&rest[start - 8..start - 4], false);
            let kind = number(&rest[start - 4..start], false);
            if (level, kind) == (libc::SOL_SOCKET as u64, SCM_RIGHTS) {
                let end = length.min(rest.len());
                descriptors.extend(rest[start..end].chunks_exact(4).map(|fd| number(fd, true) as i32));
            }
            let next = length.checked_next_multiple_of(self.width()).unwrap_or(usize::MAX);
            rest = rest.get(next..).unwrap_or_default();
        }
        Ok((descriptors, more))
    }

    fn header_size(&self) -> u64 {
        if self.compat { 28 } else { 56 }
    }

    fn header(&self, data: &[u8]) -> Header {
        let width = self.width();
        let int = |offset: usize| number(data.get(offset..offset + 4).unwrap_or_default(), true) as i32;
        Header {
            name: self.word(data, 0),
            name_length: int(width),
            // The length of the name is padded to a word.
            vectors: self.word(data, 2 * width),
            vector_count: self.word(data, 3 * width),
            control: self.word(data, 4 * width),
            control_length: self.word(data, 5 * width),
        }
    }
}
