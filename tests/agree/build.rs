//! make and compilers.

use super::case::{Case, Step, To, sh};
use super::normal;
use Step::{Asleep, Expect, Send};

pub fn cases() -> Vec<Case> {
    let make = |name, makefile, script: &str, says| sh(name, script, says).file("Makefile", makefile).needs(&["make"]);
    let cc = |name, program, script: &str, says| sh(name, script, says).file("program.c", program).needs(&["cc"]);
    vec![
        make(
            "make -j4 of forty files",
            "objects := $(shell seq -f %g.o 40)\nall: $(objects)\n\tcat $^ | sort -n | tail -n 1\n%.o:\n\t@echo $* > $@\nclean:\n\trm -f *.o\n",
            "make -sj4 && make -j4 | tail -n 1; make -q; echo $?; make clean; ls *.o 2>/dev/null | wc -l",
            "40",
        ),
        make(
            "make with targets that fail",
            "all: good bad killed late\ngood:\n\t@echo good\nbad:\n\t@exit 3\nkilled:\n\t@kill -9 $$$$\nlate: bad\n\t@echo never\nignored:\n\t-false\n\t@echo went on\n",
            "make -j4 -k; echo status $?; make; echo status $?; make ignored; echo status $?; make missing; echo status $?",
            "status 2",
        )
        // Which of the targets is the first to fail, and whose words come first, is a matter of chance.
        .normal(normal::lines_in_order),
        make(
            "make's job server goes down to the last",
            "all: a b c\na b c:\n\t@+$(MAKE) --no-print-directory -C sub NAME=$@\n",
            r#"
            mkdir sub && printf 'all: 1 2 3 4 5\n1 2 3 4 5:\n\t@echo $(NAME)$@ >> ../out; echo $(words $(filter --jobserver%%,$(MAKEFLAGS)))\n' > sub/Makefile && make -j3 && sort out | paste -s
            rm out
            "#,
            "c5",
        ),
        // The recipe dies of the signal a second later: a make whose child is
        // gone when the signal comes can wait for it once more, and fail.
        make(
            "make that is interrupted removes what is half done",
            "out:\n\techo half > out\n\techo ready\n\
             \t@trap 'sleep 1; trap - INT; kill -INT $$$$' INT; sleep 1000\n",
            "trap : INT; make; echo status $?",
            "status 130",
        )
        .steps(&[Expect("ready\n"), Asleep("sleep"), Send(To::Group, libc::SIGINT)]),
        make(
            "make builds a program",
            "CFLAGS = -O1 -Wall\nprogram: program.o part.o\n\t$(CC) -o $@ $^\n",
            r#"
            echo 'int part(int n) { return n * 2; }' > part.c
            echo 'int part(int); int main(void) { return part(21); }' > program.c
            make -j2; ./program; echo $?; touch -d '+1 hour' part.c; make -n; rm *.o program
            "#,
            "42",
        )
        .needs(&["cc"])
        .normal(normal::lines_in_order),
        cc(
            "compile, link and run",
            r#"
#include <math.h>
#include <stdio.h>

int main(int count, char **words) {
    printf("%s %d %.3f\n", words[1], count, sqrt(2));
    return 5;
}
"#,
            r#"
            cc -O2 -g -o program program.c -lm && ./program word
            echo $?; cc -c program.c && nm program.o | sed 's/^[0-9a-f]* *//'
            cc -static -o static program.c -lm && ./static x; cc -shared -fPIC -o lib.so program.c
            cc -pipe -S -o - program.c | grep -c main
            "#,
            "word 2 1.414",
        ),
        cc(
            "errors and warnings of a compiler",
            "int main(void) { int unused; retrun 1; }\n",
            r#"
            cc -Wall -c program.c; echo $?; cc -c missing.c; echo $?; cc -E -include missing.h program.c
            echo $?; echo 'int f(void) {return g();}' | cc -Werror -xc -c - -o x.o
            echo $?; echo 'int f(); int main(void) {f();}' | cc -xc -; echo $?; ls
            "#,
            "1\n",
        )
        .normal(normal::names_of_temporary_objects),
        cc(
            "preloading a library",
            "#include <unistd.h>\npid_t getppid(void) { return 42; }\n",
            r#"
            cc -shared -fPIC -o lib.so program.c && LD_PRELOAD=$PWD/lib.so python3 -c 'import os; print(os.getppid())'
            LD_PRELOAD=$PWD/missing.so true
            LD_TRACE_LOADED_OBJECTS=1 LD_PRELOAD=$PWD/lib.so /bin/true | grep -c lib.so
            /lib64/ld-linux-x86-64.so.2 /bin/echo by the loader 2>/dev/null || echo another machine
            "#,
            "42",
        ),
        cc(
            "a program of threads that ends in each way",
            THREADS,
            r#"
            cc -O1 -o program program.c -lpthread || exit; for way in $(seq 0 8); do ./program $way
            echo $way: $?; done; rm program
            "#,
            "3: 33",
        ),
        #[cfg(target_arch = "x86_64")]
        cc(
            "a 32-bit program with a thread",
            NARROW,
            "cc -m32 -O1 -ffreestanding -fno-pic -fno-stack-protector -nostdlib -static -o program program.c || exit
            ./program; echo $?; rm program",
            "7\n",
        ),
        cc("vfork, clone and posix_spawn", SPAWN, "cc -w -O1 -o program program.c && ./program; rm program", "spawned 3"),
        cc(
            "a program with set-user-ID",
            r#"
#include <stdio.h>
#include <sys/auxv.h>
#include <unistd.h>

int main(void) {
    printf("%d %d %d %ld\n", getuid() > 0, geteuid() > 0, getegid() > 0, getauxval(AT_SECURE));
    return 0;
}
"#,
            r#"
            cc -o program program.c && ./program
            as() { python3 -c 'import os, sys; os.setgid(1); os.setuid(1); os.execv(sys.argv[1], sys.argv[1:])' "$@"; }
            if [ $(id -u) = 0 ]; then
                cp program other; chown 1 other; chmod 4755 other; ./other; as ./program
                chown 0 other; chmod 6755 other; as ./other; rm other
            fi
            rm program
            "#,
            "0",
        ),
    ]
}

/// Without a C library, of which few machines have a 32-bit one: names are
/// looked up by one thread, and then by one of two.
#[cfg(target_arch = "x86_64")]
const NARROW: &str = r#"
static int call(int number, int a, int b, int c, int d) {
    int result;
    asm volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(0) : "memory");
    return result;
}

static void say(int number) {
    char text[16];
    int at = 16;
    unsigned rest = number < 0 ? -number : number;
    text[--at] = '\n';
    do text[--at] = '0' + rest % 10; while (rest /= 10);
    if (number < 0) text[--at] = '-';
    call(4, 1, (int)(text + at), 16 - at, 0);
}

static void look(void) {
    say(call(5, (int)"program.c", 0, 0, 0));
    say(call(5, (int)"missing", 0, 0, 0));
    say(call(295, -100, (int)"../../../../../../../../etc/passwd", 0, 0));
    say(call(33, (int)"/bin", 0, 0, 0));
    say(call(38, (int)"program", (int)"renamed", 0, 0));
    say(call(38, (int)"renamed", (int)"program", 0, 0));
}

static char stack[65536];
static volatile int done;

static void thread(void) {
    while (!done) call(158, 0, 0, 0, 0);
    call(1, 0, 0, 0, 0);
}

void _start(void) {
    look();
    void **top = (void **)(stack + sizeof stack - 64);
    *top = (void *)thread;
    int result;
    /* CLONE_VM, _FS, _FILES, _SIGHAND, _THREAD */
    asm volatile("int $0x80; test %%eax, %%eax; jnz 1f; ret; 1:"
        : "=a"(result) : "a"(120), "b"(0x10f00), "c"(top), "d"(0), "S"(0), "D"(0) : "memory");
    say(result > 0);
    look();
    done = 1;
    call(252, 7, 0, 0, 0);
}
"#;

const THREADS: &str = r#"
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static pthread_barrier_t barrier;
static int way;

static void *one(void *number) {
    pthread_barrier_wait(&barrier);
    if (number == (void *)5) switch (way) {
        case 1: exit(11);
        case 2: abort();
        case 3: execl("/bin/sh", "sh", "-c", "echo another program; exit 33", NULL);
        case 4: raise(SIGKILL);
        case 5: *(volatile int *)8 = 1;
        case 6: execl("/missing", "missing", NULL); _exit(66);
        case 7: syscall(SYS_exit, 77);
        case 8: syscall(SYS_exit_group, 88);
    }
    if (way) for (;;) pause();
    return NULL;
}

int main(int count, char **words) {
    way = atoi(words[1]);
    pthread_barrier_init(&barrier, NULL, 10);
    pthread_t threads[9];
    for (long n = 0; n < 9; n++) pthread_create(&threads[n], NULL, one, (void *)n);
    pthread_barrier_wait(&barrier);
    if (way == 7) { pthread_join(threads[5], NULL); puts("one ended"); fflush(stdout); syscall(SYS_tgkill, getpid(), getpid(), SIGTERM); }
    for (int n = 0; n < 9; n++) pthread_join(threads[n], NULL);
    puts("all ended");
    /* The first thread ends before the last. */
    pthread_exit(NULL);
}
"#;

const SPAWN: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
static char stack[65536];
static int shared;
static int in_clone(void *unused) { shared++; return 4; }

static void told(const char *what, pid_t pid) {
    int status = -1;
    if (pid > 0 && waitpid(pid, &status, __WALL) != pid) perror("waitpid");
    printf("%s %d\n", what, WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status));
    fflush(stdout);
}

int main(void) {
    static int in_parent;
    pid_t pid = vfork();
    if (pid == 0) { in_parent = 1; execl("/bin/sh", "sh", "-c", "exit 2", NULL); _exit(1); }
    told("vfork", pid);
    printf("memory was shared: %d\n", in_parent);
    pid = vfork();
    if (pid == 0) { execl("/missing", "missing", NULL); in_parent = errno; _exit(9); }
    told("vfork without a program", pid);
    printf("%s\n", strerror(in_parent));
    if ((pid = vfork()) == 0) { raise(SIGKILL); }
    told("killed in vfork", pid);
    char *words[] = {"sh", "-c", "exit 3", NULL};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addclose(&actions, 0);
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF);
    printf("%d\n", posix_spawn(&pid, "/bin/sh", &actions, &attributes, words, environ));
    told("spawned", pid);
    printf("%s\n", strerror(posix_spawn(&pid, "/missing", NULL, NULL, words, environ)));
    told("clone with shared memory", clone(in_clone, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL));
    told("clone without a signal", clone(in_clone, stack + sizeof stack, CLONE_VM | CLONE_FILES | CLONE_FS, NULL));
    told("clone with vfork", clone(in_clone, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL));
    printf("ran %d times\n", shared);
    int pidfd = -1;
    struct { unsigned long flags, pidfd, child_tid, parent_tid, signal, stack, size, tls; } arguments = {0x1000, (unsigned long)&pidfd, 0, 0, SIGCHLD};
    pid = syscall(SYS_clone3, &arguments, sizeof arguments);
    if (pid == 0) _exit(6);
    siginfo_t info = {0};
    printf("by pidfd: %d", waitid(3 /* P_PIDFD */, pidfd, &info, WEXITED));
    printf(" %d\n", info.si_status);
    for (int n = 0; n < 300; n++) {
        if ((pid = vfork()) == 0) _exit(n & 127);
        int status;
        waitpid(pid, &status, 0);
        if (WEXITSTATUS(status) != (n & 127)) puts("wrong");
    }
    return 0;
}
"#;
