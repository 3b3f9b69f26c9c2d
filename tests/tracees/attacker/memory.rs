//! Ways to change memory behind the back of who just read it.
//!
//! Each makes a page that holds the arguments of a call, and somebody who
//! flips one of its bytes for as long as the guard lives.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread::JoinHandle;

use libc::{c_char, c_int, c_long, c_void};

use crate::sys::{Child, PAGE, c, check, errno, map, open, owned, pages};

/// The byte that flips.
#[derive(Clone, Copy)]
pub struct Flip {
    pub offset: usize,
    pub values: [u8; 2],
}

impl Flip {
    /// Flips in memory that we can write, until told to stop.
    fn spin(self, base: usize, stop: &AtomicBool) {
        let byte = unsafe { &*((base + self.offset) as *const AtomicU8) };
        while !stop.load(Ordering::Relaxed) {
            for value in self.values {
                byte.store(value, Ordering::Relaxed);
                for _ in 0..50 {
                    std::hint::spin_loop();
                }
            }
        }
    }

    /// Flips by writing to a file at the byte's offset from `base`, for ever.
    fn write_forever(self, fd: c_int, base: u64) {
        loop {
            for value in self.values {
                unsafe { libc::pwrite(fd, (&raw const value).cast(), 1, (base + self.offset as u64) as i64) };
            }
        }
    }

    /// The page with the byte flipped one way or the other.
    fn images(self, image: &[u8]) -> [Vec<u8>; 2] {
        self.values.map(|value| {
            let mut image = image.to_vec();
            image[self.offset] = value;
            image
        })
    }
}

/// Who flips; ends it when dropped.
#[allow(dead_code, reason = "held for their ends")]
pub enum Mover {
    Nobody,
    Thread(Flipper),
    Process(Child),
    /// A file that flips by being read into memory.
    Aio(Box<Aio>),
}

/// A thread that flips.
pub struct Flipper {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Flipper {
    pub fn start(body: impl FnOnce(&AtomicBool) + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let begun = Arc::new(AtomicBool::new(false));
        let (seen, told) = (Arc::clone(&stop), Arc::clone(&begun));
        let thread = std::thread::spawn(move || {
            told.store(true, Ordering::Relaxed);
            body(&seen);
        });
        while !begun.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Flipper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// A page of arguments, and who changes it.
pub struct Arena {
    pub base: *mut u8,
    pub mover: Mover,
}

impl Arena {
    /// Before each attempt.
    pub fn poke(&mut self) {
        if let Mover::Aio(aio) = &mut self.mover {
            aio.submit();
        }
    }

    /// After each attempt.
    pub fn settle(&mut self) {
        if let Mover::Aio(aio) = &mut self.mover {
            aio.reap();
        }
    }
}

/// Makes a page with the contents that `image` gives for its address, and
/// starts the mover of this name on it.
pub fn start(mover: &str, directory: &str, flip: Flip, image: &dyn Fn(usize) -> Vec<u8>) -> Arena {
    match mover {
        "none" => Arena { base: private(image), mover: Mover::Nobody },
        "thread" | "vfork" => {
            let base = private(image);
            let address = base as usize;
            Arena { base, mover: Mover::Thread(Flipper::start(move |stop| flip.spin(address, stop))) }
        }
        "clone-vm" => {
            let base = private(image);
            Arena { base, mover: Mover::Process(clone_vm(flip, base as usize)) }
        }
        #[cfg(target_arch = "x86_64")]
        "clone3-vm-int80" | "clone3-vm-pidfd" => {
            let base = private(image);
            Arena { base, mover: Mover::Process(clone3_vm(mover, flip, base as usize)) }
        }
        "shared-anon" => {
            let base = map(1, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1, libc::PROT_READ | libc::PROT_WRITE);
            fill(base, image);
            let address = base as usize;
            Arena { base, mover: Mover::Process(Child::forever(|| flip.spin(address, &AtomicBool::new(false)))) }
        }
        "sysv-shm" => {
            let id = check(unsafe { libc::shmget(libc::IPC_PRIVATE, PAGE, 0o600) }).unwrap() as c_int;
            let base: *mut u8 = unsafe { libc::shmat(id, std::ptr::null(), 0) }.cast();
            unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) };
            fill(base, image);
            let address = base as usize;
            Arena { base, mover: Mover::Process(Child::forever(|| flip.spin(address, &AtomicBool::new(false)))) }
        }
        // We have it for reading only: it is not our mapping that writes.
        "memfd-mapped" => {
            let (file, base) = memfd(libc::MAP_SHARED, image);
            let child = Child::forever(|| {
                let writable = map(1, libc::MAP_SHARED, file.as_raw_fd(), libc::PROT_READ | libc::PROT_WRITE);
                flip.spin(writable as usize, &AtomicBool::new(false));
            });
            Arena { base, mover: Mover::Process(child) }
        }
        "memfd-written" => {
            let (file, base) = memfd(libc::MAP_SHARED, image);
            Arena { base, mover: Mover::Process(Child::forever(|| flip.write_forever(file.as_raw_fd(), 0))) }
        }
        // A private mapping shows the file until its first own write.
        "private-memfd" => {
            let (file, base) = memfd(libc::MAP_PRIVATE, image);
            Arena { base, mover: Mover::Process(Child::forever(|| flip.write_forever(file.as_raw_fd(), 0))) }
        }
        "private-file" => {
            let file = open(&format!("{directory}/arguments"), libc::O_RDWR | libc::O_CREAT).unwrap();
            let base = backed(&file, libc::MAP_PRIVATE, image);
            Arena { base, mover: Mover::Process(Child::forever(|| flip.write_forever(file.as_raw_fd(), 0))) }
        }
        "vm-writev" => {
            let base = private(image);
            Arena { base, mover: Mover::Process(by_vm_writev(flip, base as u64)) }
        }
        "proc-mem" => {
            let base = private(image);
            let path = format!("/proc/{}/mem", std::process::id());
            let child = Child::forever(|| {
                let Ok(memory) = open(&path, libc::O_RDWR) else { return };
                flip.write_forever(memory.as_raw_fd(), base as u64);
            });
            Arena { base, mover: Mover::Process(child) }
        }
        // Under a name that says nothing.
        "proc-mem-bound" => {
            let base = private(image);
            check(unsafe { libc::unshare(libc::CLONE_NEWNS) }).unwrap();
            let (memory, name) = (c("/proc/self/mem"), c(&format!("{directory}/victim")));
            let mount = |from: *const c_char, to: &std::ffi::CStr, flags| {
                check(unsafe { libc::mount(from, to.as_ptr(), std::ptr::null(), flags, std::ptr::null()) }).unwrap();
            };
            mount(std::ptr::null(), c"/", libc::MS_REC | libc::MS_PRIVATE);
            mount(memory.as_ptr(), &name, libc::MS_BIND);
            let child = Child::forever(|| {
                let Ok(memory) = open(&format!("{directory}/victim"), libc::O_RDWR) else { return };
                flip.write_forever(memory.as_raw_fd(), base as u64);
            });
            Arena { base, mover: Mover::Process(child) }
        }
        // Opened by ourselves: only its use is by another.
        "proc-mem-inherited" => {
            let base = private(image);
            let memory = open("/proc/self/mem", libc::O_RDWR);
            let child = Child::forever(|| {
                let Ok(memory) = memory else { return };
                flip.write_forever(memory.as_raw_fd(), base as u64);
            });
            Arena { base, mover: Mover::Process(child) }
        }
        "aio" => {
            let base = private(image);
            let image = unsafe { std::slice::from_raw_parts(base, PAGE) };
            let aio = Aio::new(directory, base, &flip.images(image));
            Arena { base, mover: Mover::Aio(Box::new(aio)) }
        }
        "userfaultfd" => userfault(flip, image),
        _ => panic!("no such mover: {mover}"),
    }
}

fn fill(base: *mut u8, image: &dyn Fn(usize) -> Vec<u8>) {
    let image = image(base as usize);
    assert!(image.len() <= PAGE);
    unsafe { std::ptr::copy_nonoverlapping(image.as_ptr(), base, image.len()) };
}

fn private(image: &dyn Fn(usize) -> Vec<u8>) -> *mut u8 {
    let base = pages(1);
    fill(base, image);
    base
}

fn memfd(flags: c_int, image: &dyn Fn(usize) -> Vec<u8>) -> (OwnedFd, *mut u8) {
    let file = owned(unsafe { libc::memfd_create(c"arguments".as_ptr(), 0) }).unwrap();
    let base = backed(&file, flags, image);
    (file, base)
}

/// A mapping for reading of a file that is made to hold the image.
fn backed(file: &OwnedFd, flags: c_int, image: &dyn Fn(usize) -> Vec<u8>) -> *mut u8 {
    check(unsafe { libc::ftruncate(file.as_raw_fd(), PAGE as i64) }).unwrap();
    let base = map(1, flags, file.as_raw_fd(), libc::PROT_READ);
    let image = image(base as usize);
    let written = unsafe { libc::pwrite(file.as_raw_fd(), image.as_ptr().cast(), image.len(), 0) };
    assert_eq!(written, image.len() as isize);
    base
}

/// A process that shares our memory and is no thread of ours.
fn clone_vm(flip: Flip, base: usize) -> Child {
    struct Work(Flip, usize);
    extern "C" fn body(work: *mut c_void) -> c_int {
        let Work(flip, base) = unsafe { std::ptr::read(work.cast()) };
        flip.spin(base, &AtomicBool::new(false));
        0
    }
    let work = Box::into_raw(Box::new(Work(flip, base)));
    let top = unsafe { pages(16).add(16 * PAGE) };
    let pid = unsafe { libc::clone(body, top.cast(), libc::CLONE_VM | libc::SIGCHLD, work.cast()) };
    Child(check(pid).unwrap() as i32)
}

/// The same by clone3: by the other convention, whose arguments are elsewhere, or
/// with a structure over which the kernel writes what the child is called.
#[cfg(target_arch = "x86_64")]
fn clone3_vm(how: &str, flip: Flip, base: usize) -> Child {
    struct Work(Flip, usize);
    extern "C" fn body(work: usize) -> ! {
        let Work(flip, base) = unsafe { std::ptr::read(work as *const Work) };
        flip.spin(base, &AtomicBool::new(false));
        unsafe { libc::_exit(0) }
    }
    let work = (body as crate::abi::Body, Box::into_raw(Box::new(Work(flip, base))) as usize);
    let arguments: *mut u64 = crate::page::pages_below_4g().cast();
    let top: *mut u64 = unsafe { pages(16).add(16 * PAGE) }.cast();
    let make = |flags: c_int, pidfd: u64| {
        unsafe {
            arguments.write(flags as u64);
            arguments.add(1).write(pidfd);
            arguments.add(4).write(libc::SIGCHLD as u64);
        }
        let call = if how == "clone3-vm-int80" { crate::abi::clone3_int80 } else { crate::abi::clone3 };
        call(arguments, work, top)
    };
    let mut pid = if how == "clone3-vm-int80" {
        make(libc::CLONE_VM | libc::CLONE_UNTRACED, 0)
    } else {
        make(libc::CLONE_VM | libc::CLONE_PIDFD, arguments as u64)
    };
    if pid < 0 {
        // One that may be out of sight is refused; then one in sight.
        pid = make(libc::CLONE_VM, 0);
    }
    if pid == -libc::ENOSYS {
        // As where there is no such call.
        return clone_vm(flip, base);
    }
    assert!(pid > 0, "{}", crate::sys::name(-pid));
    Child(pid)
}

fn by_vm_writev(flip: Flip, base: u64) -> Child {
    let target = unsafe { libc::getpid() };
    Child::forever(move || {
        loop {
            for value in flip.values {
                let local = libc::iovec { iov_base: (&raw const value).cast_mut().cast(), iov_len: 1 };
                let remote = libc::iovec { iov_base: (base as usize + flip.offset) as *mut c_void, iov_len: 1 };
                unsafe { libc::process_vm_writev(target, &raw const local, 1, &raw const remote, 1, 0) };
            }
        }
    })
}

/// `struct iocb` (linux/aio_abi.h).
#[repr(C)]
#[derive(Default)]
struct Iocb {
    data: u64,
    key: u32,
    rw_flags: u32,
    opcode: u16,
    priority: i16,
    fd: u32,
    buffer: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    result_fd: u32,
}

/// Reads a file past the page cache into the page while the call is under
/// way: the device writes, no thread does.
pub struct Aio {
    context: u64,
    file: OwnedFd,
    base: u64,
    turn: i64,
    under_way: usize,
}

impl Aio {
    fn new(directory: &str, base: *mut u8, images: &[Vec<u8>; 2]) -> Self {
        let path = format!("{directory}/images");
        std::fs::write(&path, images.concat()).unwrap();
        let file = open(&path, libc::O_RDONLY | libc::O_DIRECT).unwrap();
        check(unsafe { libc::fsync(file.as_raw_fd()) }).unwrap();
        let mut context = 0u64;
        check(unsafe { libc::syscall(libc::SYS_io_setup, 16, &raw mut context) }).unwrap();
        Self { context, file, base: base as u64, turn: 0, under_way: 0 }
    }

    /// Starts a read of the other image.
    fn submit(&mut self) {
        self.turn ^= 1;
        let mut iocb = Iocb {
            fd: self.file.as_raw_fd() as u32,
            buffer: self.base,
            bytes: PAGE as u64,
            offset: self.turn * PAGE as i64,
            ..Iocb::default()
        };
        let mut list = [&raw mut iocb];
        let submitted = unsafe { libc::syscall(libc::SYS_io_submit, self.context, 1, list.as_mut_ptr()) };
        if submitted == 1 {
            self.under_way += 1;
        }
        // So that the read ends at any time of the attempt.
        for _ in 0..(self.turn + self.base as i64) % 97 * 10 {
            std::hint::spin_loop();
        }
    }

    fn reap(&mut self) {
        let mut events = [[0u64; 4]; 16];
        while self.under_way > 0 {
            let none = std::ptr::null_mut::<libc::timespec>();
            let done = unsafe { libc::syscall(libc::SYS_io_getevents, self.context, 1, 16, events.as_mut_ptr(), none) };
            if done == -1 {
                assert_eq!(errno(), libc::EINTR);
                continue;
            }
            assert!(events[..done as usize].iter().all(|event| event[2] == PAGE as u64), "a read fell short");
            self.under_way -= done as usize;
        }
    }
}

impl Drop for Aio {
    fn drop(&mut self) {
        self.reap();
        unsafe { libc::syscall(libc::SYS_io_destroy, self.context) };
    }
}

const UFFDIO_API: libc::Ioctl = 0xc018_aa3f_u32 as libc::Ioctl;
const UFFDIO_REGISTER: libc::Ioctl = 0xc020_aa00_u32 as libc::Ioctl;
const UFFDIO_COPY: libc::Ioctl = 0xc028_aa03_u32 as libc::Ioctl;
const UFFDIO_REGISTER_MODE_MISSING: u64 = 1;

/// A page that is missing at every look, and is another each time that
/// somebody waits for it.
fn userfault(flip: Flip, image: &dyn Fn(usize) -> Vec<u8>) -> Arena {
    let base = pages(1);
    let fd =
        owned(unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | libc::O_NONBLOCK) } as c_int).unwrap();
    let mut api = [0xaa_u64, 0, 0];
    check(unsafe { libc::ioctl(fd.as_raw_fd(), UFFDIO_API, api.as_mut_ptr()) }).unwrap();
    let mut register = [base as u64, PAGE as u64, UFFDIO_REGISTER_MODE_MISSING, 0];
    check(unsafe { libc::ioctl(fd.as_raw_fd(), UFFDIO_REGISTER, register.as_mut_ptr()) }).unwrap();
    let mut whole = image(base as usize);
    whole.resize(PAGE, 0);
    let images = flip.images(&whole).map(|image| {
        let page = pages(1);
        unsafe { std::ptr::copy_nonoverlapping(image.as_ptr(), page, PAGE) };
        page as u64
    });
    let address = base as u64;
    let serve = move |stop: &AtomicBool| {
        let mut turn = 0;
        while !stop.load(Ordering::Relaxed) {
            let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            if unsafe { libc::poll(&raw mut poll, 1, 10) } != 1 {
                continue;
            }
            let mut message = [0u8; 32];
            if unsafe { libc::read(fd.as_raw_fd(), message.as_mut_ptr().cast(), 32) } != 32 {
                continue;
            }
            // Another at each look.
            turn = (turn + 1) % 2;
            let mut copy = [address, images[usize::from(turn == 0)], PAGE as u64, 0, 0];
            unsafe { libc::ioctl(fd.as_raw_fd(), UFFDIO_COPY, copy.as_mut_ptr()) };
            for _ in 0..2000 {
                std::hint::spin_loop();
            }
            unsafe { libc::madvise(address as *mut c_void, PAGE, libc::MADV_DONTNEED) };
        }
        // Nobody waits any more: leave the page as it is.
        let mut copy = [address, images[0], PAGE as u64, 0, 0];
        unsafe { libc::ioctl(fd.as_raw_fd(), UFFDIO_COPY, copy.as_mut_ptr()) };
    };
    Arena { base, mover: Mover::Thread(Flipper::start(serve)) }
}

/// Runs `body` in a child of `vfork`, which shares our memory and leaves its
/// parent's other threads running.
pub fn in_vfork(body: &mut dyn FnMut()) -> c_int {
    extern "C" fn run(body: *mut c_void) -> c_int {
        let body: *mut &mut dyn FnMut() = body.cast();
        unsafe { (*body)() };
        0
    }
    let mut body: &mut dyn FnMut() = body;
    let top = unsafe { pages(64).add(64 * PAGE) };
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let child = unsafe { libc::clone(run, top.cast(), flags, (&raw mut body).cast()) };
    crate::sys::wait(check(c_long::from(child)).unwrap() as i32)
}
