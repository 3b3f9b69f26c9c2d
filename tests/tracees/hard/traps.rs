//! Signals that the processor raises, and ptrace asked for by the program
//! itself.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use libc::{c_int, c_void, siginfo_t};

use crate::signals::{handle, mask};
use crate::sys::{call, fork, getpid, gettid, open_something, pipe, say, told, wait, wait_for};

static SEEN: [AtomicI64; 3] = [const { AtomicI64::new(0) }; 3];
static ADDRESS: AtomicUsize = AtomicUsize::new(0);
static TIMES: AtomicI64 = AtomicI64::new(0);

fn note(signal: c_int, info: *mut siginfo_t) {
    SEEN[0].store(signal.into(), Ordering::SeqCst);
    SEEN[1].store(unsafe { (*info).si_code }.into(), Ordering::SeqCst);
    ADDRESS.store(unsafe { (*info).si_addr() } as usize, Ordering::SeqCst);
    TIMES.fetch_add(1, Ordering::SeqCst);
    open_something();
}

fn seen() -> String {
    format!("signal {}, code {}", SEEN[0].load(Ordering::SeqCst), SEEN[1].load(Ordering::SeqCst))
}

/// Makes the page that faulted usable, so that the access succeeds.
extern "C" fn mend(signal: c_int, info: *mut siginfo_t, _: *mut c_void) {
    note(signal, info);
    let page = ADDRESS.load(Ordering::SeqCst) & !4095;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    unsafe { libc::mmap(page as *mut c_void, 4096, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
}

extern "C" fn only_note(signal: c_int, info: *mut siginfo_t, _: *mut c_void) {
    note(signal, info);
}

fn map(protection: c_int) -> usize {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) as usize }
}

pub(crate) fn faults() {
    for (name, protection) in
        [("nothing there", None), ("not for us", Some(libc::PROT_NONE)), ("read only", Some(libc::PROT_READ))]
    {
        handle(libc::SIGSEGV, mend, 0, false);
        let mut good = 0;
        for _ in 0..20 {
            let page = map(protection.unwrap_or(libc::PROT_READ));
            if protection.is_none() {
                unsafe { libc::munmap(page as *mut c_void, 4096) };
            }
            let target = page + 8;
            unsafe { (target as *mut u64).write_volatile(7) };
            let value = unsafe { (target as *const u64).read_volatile() };
            good += i32::from(value == 7 && ADDRESS.load(Ordering::SeqCst) == target);
            unsafe { libc::munmap(page as *mut c_void, 4096) };
        }
        say!("{name}: {}, {good} of 20 mended", seen());
    }
    // Past the end of a file.
    handle(libc::SIGBUS, mend, 0, false);
    let file = call!(SYS_memfd_create, c"empty".as_ptr(), 0).unwrap() as c_int;
    let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ, libc::MAP_SHARED, file, 0) };
    let value = unsafe { page.cast::<u8>().add(5).read_volatile() };
    say!("past the end: {}, right place {}, {value}", seen(), ADDRESS.load(Ordering::SeqCst) == page as usize + 5);
    for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS] {
        let status = wait(fork(|| {
            unsafe { libc::signal(signal, libc::SIG_DFL) };
            unsafe { libc::raise(signal) };
            1
        }));
        say!("by default: {}", status);
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) fn instructions() {
    use std::arch::asm;

    /// Steps over the two bytes of `ud2` and of `idiv`.
    extern "C" fn step_over(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
        note(signal, info);
        let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
        let place = &mut context.uc_mcontext.gregs[libc::REG_RIP as usize];
        SEEN[2].store(i64::from(*place as usize == ADDRESS.load(Ordering::SeqCst)), Ordering::SeqCst);
        *place += 2;
    }
    for signal in [libc::SIGILL, libc::SIGFPE] {
        handle(signal, step_over, 0, false);
    }
    handle(libc::SIGTRAP, only_note, 0, false);
    unsafe { asm!("ud2") };
    say!("ud2: {}, right place {}", seen(), SEEN[2].load(Ordering::SeqCst));
    unsafe { asm!("xor edx, edx", "xor ecx, ecx", "mov eax, 1", "idiv ecx", out("eax") _, out("ecx") _, out("edx") _) };
    say!("division by zero: {}, right place {}", seen(), SEEN[2].load(Ordering::SeqCst));

    TIMES.store(0, Ordering::SeqCst);
    for _ in 0..50 {
        unsafe { asm!("int3") };
    }
    say!("int3: {}, {} times", seen(), TIMES.swap(0, Ordering::SeqCst));
    // The trap flag: a signal after each instruction.
    unsafe {
        asm!(
            "pushfq",
            "or qword ptr [rsp], 0x100",
            "popfq",
            "nop",
            "nop",
            "nop",
            "pushfq",
            "and qword ptr [rsp], -257",
            "popfq",
        );
    }
    say!("single steps: {}, {} times", seen(), TIMES.swap(0, Ordering::SeqCst));
    // The trap flag over a system call that the host may stop.
    let number = libc::SYS_access;
    let path = c"/dev/null";
    let result: i64;
    unsafe {
        asm!(
            "pushfq", "or qword ptr [rsp], 0x100", "popfq",
            "syscall",
            "nop",
            "pushfq", "and qword ptr [rsp], -257", "popfq",
            inlateout("rax") number => result, in("rdi") path.as_ptr(), in("rsi") 0,
            out("rcx") _, out("r11") _,
        );
    }
    say!("single steps over a call: {}, {} times, result {result}", seen(), TIMES.swap(0, Ordering::SeqCst));
    let status = wait(fork(|| {
        unsafe { libc::signal(libc::SIGTRAP, libc::SIG_DFL) };
        unsafe { asm!("int3") };
        1
    }));
    say!("int3 by default: {status}");
    let status = wait(fork(|| {
        mask(libc::SIG_BLOCK, &[libc::SIGTRAP]);
        unsafe { asm!("int3") };
        1
    }));
    say!("int3 while blocked: {status}");
    let status = wait(fork(|| {
        unsafe { libc::signal(libc::SIGTRAP, libc::SIG_IGN) };
        unsafe { libc::raise(libc::SIGTRAP) };
        open_something();
        let survived = 3;
        unsafe { asm!("int3") };
        survived
    }));
    say!("ignored, raised, then int3: {status}");
}

/// SIGTRAP with all that a tracer's stops look like in it.
pub(crate) fn look_alikes() {
    handle(libc::SIGTRAP, only_note, 0, false);
    TIMES.store(0, Ordering::SeqCst);
    unsafe { libc::raise(libc::SIGTRAP) };
    say!("raise: {}, {} times", seen(), TIMES.load(Ordering::SeqCst));
    unsafe { libc::kill(getpid(), libc::SIGTRAP) };
    say!("kill: {}, {} times", seen(), TIMES.load(Ordering::SeqCst));
    // The numbers of ptrace events in si_code, to itself, where every code is
    // permitted; and SIGTRAP | 0x80 with them.
    for event in (0..=8).chain([128]) {
        for base in [libc::SIGTRAP, libc::SIGTRAP | 0x80] {
            let mut info: siginfo_t = unsafe { std::mem::zeroed() };
            info.si_signo = libc::SIGTRAP;
            info.si_code = base | event << 8;
            let sent = call!(SYS_rt_tgsigqueueinfo, getpid(), gettid(), libc::SIGTRAP, &raw const info);
            open_something();
            say!("event {event}, {base:#x}: {}, {}, {} times", told(sent), seen(), TIMES.load(Ordering::SeqCst));
        }
    }
    // As raw exit codes, from where such stops are made.
    for code in [libc::SIGTRAP, libc::SIGTRAP | 0x80] {
        let status = wait(fork(|| {
            open_something();
            code
        }));
        say!("exit code {code}: {status}");
    }
    say!("a signal of that number: {}", told(call!(SYS_kill, getpid(), libc::SIGTRAP | 0x80)));
    // Stopped by SIGTRAP? It is no stop signal.
    unsafe { libc::signal(libc::SIGTRAP, libc::SIG_DFL) };
    let child = fork(|| {
        loop {
            unsafe { libc::pause() };
        }
    });
    unsafe { libc::kill(child, libc::SIGTRAP) };
    say!("killed by it: {}", wait_for(child, libc::WUNTRACED));
}

/// ptrace by the program itself: `EPERM` where a tracer is there already.
pub(crate) fn nested() {
    let status = wait(fork(|| {
        let result = call!(SYS_ptrace, libc::PTRACE_TRACEME, 0, 0, 0);
        result.err().map_or(0, |errno| errno as i32)
    }));
    say!("TRACEME: {status}");
    for request in [libc::PTRACE_ATTACH, libc::PTRACE_SEIZE] {
        let [reader, writer] = pipe();
        let child = fork(|| {
            crate::sys::close(writer);
            let mut byte = 0u8;
            let read = call!(SYS_read, reader, &raw mut byte, 1);
            if read == Ok(0) { 12 } else { 13 }
        });
        let result = call!(SYS_ptrace, request, child, 0, 0);
        if result.is_ok() {
            if request == libc::PTRACE_ATTACH {
                wait_for(child, libc::WUNTRACED);
            } else {
                let _ = call!(SYS_ptrace, libc::PTRACE_INTERRUPT, child, 0, 0);
                wait_for(child, libc::WUNTRACED);
            }
            let _ = call!(SYS_ptrace, libc::PTRACE_DETACH, child, 0, 0);
        }
        crate::sys::close(writer);
        say!("request {request:#x}: {}; its child {}", told(result), wait(child));
    }
    // What needs the right to trace, but no tracing, goes on.
    let [reader, writer] = pipe();
    let secret = 42u64;
    let child = fork(|| {
        crate::sys::close(writer);
        let mut byte = 0u8;
        let _ = call!(SYS_read, reader, &raw mut byte, 1);
        0
    });
    let mut copy = 0u64;
    let local = libc::iovec { iov_base: (&raw mut copy).cast(), iov_len: 8 };
    let remote = libc::iovec { iov_base: (&raw const secret).cast_mut().cast(), iov_len: 8 };
    let read = call!(SYS_process_vm_readv, child, &raw const local, 1, &raw const remote, 1, 0);
    let memory = std::fs::read_to_string(format!("/proc/{child}/maps")).is_ok_and(|maps| !maps.is_empty());
    let pidfd = call!(SYS_pidfd_open, child, 0).unwrap();
    let taken = call!(SYS_pidfd_getfd, pidfd, reader, 0);
    crate::sys::close(writer);
    say!("process_vm_readv {read:?} {copy}, maps {memory}, pidfd_getfd {}; {}", told(taken), wait(child));
    let denied = call!(SYS_ptrace, libc::PTRACE_CONT, child, 0, 0);
    say!("a request to a stranger: {}", told(denied));
}
