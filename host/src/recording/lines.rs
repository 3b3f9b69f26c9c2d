//! Cuts a stream into lines, within bounded memory.
//!
//! `BufRead::read_until` would read a line of any length, and copies each
//! one; here a line is a slice of the buffer.

use std::io::{self, Read};

use super::format::MAX_LINE;

/// Lines of a stream.
pub(super) struct Lines<R> {
    input: R,
    buffer: Vec<u8>,
    /// What has been read but not yet given out: `buffer[start..end]`.
    start: usize,
    end: usize,
    /// Number of the last line given out, from 1.
    number: u64,
    given: u64,
}

/// What comes next in a stream.
#[derive(Debug)]
pub(super) enum Line<'a> {
    /// A line, without its end.
    Whole(&'a [u8]),
    /// What stands after the last line end; nothing if the stream ends well.
    Last(&'a [u8]),
    /// The stream broke off: compressed data stops before its end.
    Broken,
}

/// Why there is no next line.
#[derive(Debug)]
pub(super) enum LineError {
    TooLong,
    Read(io::Error),
}

impl<R: Read> Lines<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, buffer: vec![0; 256 << 10], start: 0, end: 0, number: 0, given: 0 }
    }

    /// Number of the line that [`Self::next`] gave last.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Bytes given out so far.
    pub(super) fn given(&self) -> u64 {
        self.given
    }

    pub(super) fn next(&mut self) -> Result<Line<'_>, LineError> {
        let mut searched = 0;
        self.number += 1;
        loop {
            if let Some(length) = find_newline(&self.buffer[self.start + searched..self.end]) {
                let line = self.start..self.start + searched + length;
                self.start = line.end + 1;
                self.given += length as u64 + searched as u64 + 1;
                return Ok(Line::Whole(&self.buffer[line]));
            }
            searched = self.end - self.start;
            if searched > MAX_LINE {
                return Err(LineError::TooLong);
            }
            self.make_room();
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => {
                    let rest = self.start..self.end;
                    self.start = self.end;
                    return Ok(Line::Last(&self.buffer[rest]));
                }
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Line::Broken),
                Err(error) => return Err(LineError::Read(error)),
            }
        }
    }

    /// Moves what is left to the front, and doubles the buffer if it is full
    /// of one unfinished line.
    fn make_room(&mut self) {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
    }
}

fn find_newline(bytes: &[u8]) -> Option<usize> {
    bstr::ByteSlice::find_byte(bytes, b'\n')
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Gives one byte a time, and an interruption before each.
    struct Slow<'a>(&'a [u8], bool);

    impl Read for Slow<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let count = self.0.len().min(1);
            out[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    #[test]
    fn cuts_at_line_ends() {
        let mut lines = Lines::new(Slow(b"one\n\nthree\nfo", false));
        assert!(matches!(lines.next().unwrap(), Line::Whole(b"one")));
        assert!(matches!(lines.next().unwrap(), Line::Whole(b"")));
        assert!(matches!(lines.next().unwrap(), Line::Whole(b"three")));
        assert_eq!(lines.number(), 3);
        assert!(matches!(lines.next().unwrap(), Line::Last(b"fo")));
        assert!(matches!(lines.next().unwrap(), Line::Last(b"")));
    }

    #[test]
    fn endless_line_is_refused_within_bounds() {
        let mut lines = Lines::new(io::repeat(b'x'));
        assert!(matches!(lines.next(), Err(LineError::TooLong)));
        assert!(lines.buffer.len() <= 2 * MAX_LINE);
    }
}
