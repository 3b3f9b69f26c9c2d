/* Calls that sleep, each made by a child. What it waits for comes in finish(). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int go[2], full[2], both[2], locked[2], messages, semaphores;
static struct shared {
    /* Waited on. */
    volatile int word;
    sem_t semaphore;
    /* What the child tells: it is about to call, its handler ran, the call's result. */
    volatile int ready, told, error;
    volatile long result;
} *shared;

static long call_read(void) { char byte; return read(go[0], &byte, 1); }
static long call_recv(void) { char byte; return recv(both[0], &byte, 1, 0); }
static long call_recv_timeout(void) {
    struct timeval long_time = {1000, 0};
    setsockopt(both[0], SOL_SOCKET, SO_RCVTIMEO, &long_time, sizeof long_time);
    char byte;
    return recv(both[0], &byte, 1, 0);
}
static long call_poll(void) { return poll(&(struct pollfd){go[0], POLLIN, 0}, 1, -1); }
static long call_poll_timeout(void) { return poll(&(struct pollfd){go[0], POLLIN, 0}, 1, 1000000); }
static long call_ppoll(void) { return ppoll(&(struct pollfd){go[0], POLLIN, 0}, 1, &(struct timespec){1000, 0}, NULL); }
static long call_select(void) {
    fd_set set;
    FD_ZERO(&set);
    FD_SET(go[0], &set);
    return select(go[0] + 1, &set, NULL, NULL, &(struct timeval){1000, 0});
}
static long call_epoll(void) {
    int epoll = epoll_create1(0);
    epoll_ctl(epoll, EPOLL_CTL_ADD, go[0], &(struct epoll_event){EPOLLIN});
    return epoll_wait(epoll, &(struct epoll_event){0}, 1, -1);
}
static long call_epoll_timeout(void) {
    int epoll = epoll_create1(0);
    epoll_ctl(epoll, EPOLL_CTL_ADD, go[0], &(struct epoll_event){EPOLLIN});
    return epoll_wait(epoll, &(struct epoll_event){0}, 1, 1000000);
}
static long call_futex(void) { return syscall(SYS_futex, &shared->word, FUTEX_WAIT, 0, NULL); }
static long call_futex_timeout(void) { return syscall(SYS_futex, &shared->word, FUTEX_WAIT, 0, &(struct timespec){1000, 0}); }
static long call_sem_wait(void) { return sem_wait(&shared->semaphore); }
static long call_flock(void) { return flock(open("locked", O_RDWR), LOCK_EX); }
static long call_lockf(void) { return lockf(open("locked2", O_RDWR), F_LOCK, 0); }
static long call_fifo(void) { return open("fifo", O_RDONLY) > 0; }
static long call_wait(void) {
    pid_t pid = fork();
    if (pid == 0) { char byte; while (read(go[0], &byte, 1) < 0) ; _exit(5); }
    int status;
    return waitpid(pid, &status, 0) < 0 ? -1 : WEXITSTATUS(status);
}
static long call_nanosleep(void) { return nanosleep(&(struct timespec){0, 300000000}, NULL); }
static long call_nanosleep_rest(void) {
    struct timespec rest = {-1, 0};
    long result = nanosleep(&(struct timespec){1000, 0}, &rest);
    if (rest.tv_sec < 900 || rest.tv_sec > 1000) puts("a wrong rest");
    return result;
}
static long call_clock_nanosleep(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    if ((time.tv_nsec += 300000000) >= 1000000000) { time.tv_sec++; time.tv_nsec -= 1000000000; }
    errno = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
    return errno ? -1 : 0;
}
static long call_pause(void) { return pause(); }
static long call_sigtimedwait(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return sigtimedwait(&set, NULL, &(struct timespec){1000, 0});
}
static long call_msgrcv(void) { char buffer[100]; return msgrcv(messages, buffer, 10, 0, 0); }
static long call_semop(void) { return semop(semaphores, &(struct sembuf){0, -1, 0}, 1); }
static long call_accept(void) {
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    bind(listener, &(struct sockaddr){AF_UNIX}, sizeof(sa_family_t));
    listen(listener, 1);
    return accept(listener, NULL, NULL);
}
static long call_write(void) { static char much[1 << 17]; return write(full[1], much, sizeof much); }

/* `endless`: nothing but a signal ends it. */
static const struct { const char *name; long (*call)(void); int endless; } calls[] = {
    {"read", call_read, 0},
    {"recv", call_recv, 0},
    {"recv with a timeout", call_recv_timeout, 0},
    {"poll", call_poll, 0},
    {"poll with a timeout", call_poll_timeout, 0},
    {"ppoll", call_ppoll, 0},
    {"select", call_select, 0},
    {"epoll_wait", call_epoll, 0},
    {"epoll_wait with a timeout", call_epoll_timeout, 0},
    {"futex", call_futex, 0},
    {"futex with a timeout", call_futex_timeout, 0},
    {"sem_wait", call_sem_wait, 0},
    {"flock", call_flock, 0},
    {"lockf", call_lockf, 0},
    {"open of a FIFO", call_fifo, 0},
    {"waitpid", call_wait, 0},
    {"nanosleep", call_nanosleep, 0},
    {"clock_nanosleep", call_clock_nanosleep, 0},
    {"nanosleep with a rest", call_nanosleep_rest, 1},
    {"pause", call_pause, 1},
    {"sigtimedwait", call_sigtimedwait, 1},
    {"msgrcv", call_msgrcv, 0},
    {"semop", call_semop, 0},
    {"accept", call_accept, 1},
    {"write into a full pipe", call_write, 0},
};

struct sleeper { pid_t pid; unsigned n; };

static void handler(int number) { shared->told = 1; }

/* Starts a child that makes the call. Without flags (-1) it has no handler. */
static struct sleeper begin(unsigned n, int flags) {
    fflush(stdout);
    if (!shared) shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memset((void *)shared, 0, sizeof *shared);
    sem_init(&shared->semaphore, 1, 0);
    pipe(go);
    pipe(full);
    socketpair(AF_UNIX, SOCK_STREAM, 0, both);
    messages = msgget(IPC_PRIVATE, 0600);
    semaphores = semget(IPC_PRIVATE, 1, 0600);
    mkfifo("fifo", 0600);
    flock(locked[0] = open("locked", O_RDWR | O_CREAT, 0600), LOCK_EX);
    lockf(locked[1] = open("locked2", O_RDWR | O_CREAT, 0600), F_LOCK, 0);
    pid_t pid = fork();
    if (pid == 0) {
        close(locked[0]);
        if (flags >= 0) sigaction(SIGUSR1, &(struct sigaction){.sa_handler = handler, .sa_flags = flags}, NULL);
        shared->ready = 1;
        errno = 0;
        shared->result = calls[n].call();
        shared->error = errno;
        _exit(0);
    }
    return (struct sleeper){pid, n};
}

static int ended(struct sleeper *sleeper) {
    siginfo_t info = {0};
    return waitid(P_PID, sleeper->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid;
}

static char state(struct sleeper *sleeper) {
    char name[40], text[400] = "";
    sprintf(name, "/proc/%d/stat", sleeper->pid);
    int file = open(name, O_RDONLY);
    read(file, text, sizeof text - 1);
    close(file);
    return strrchr(text, ')')[2];
}

static void until_asleep(struct sleeper *sleeper) {
    while (!ended(sleeper) && !(shared->ready && state(sleeper) == 'S')) usleep(1000);
}

static void until_told(struct sleeper *sleeper) {
    while (!ended(sleeper) && !shared->told) usleep(1000);
}

/* Lets the call come to its end, and tells of it. */
static void finish(struct sleeper *sleeper) {
    until_asleep(sleeper);
    const char *name = calls[sleeper->n].name;
    if (calls[sleeper->n].endless && !ended(sleeper)) {
        kill(sleeper->pid, SIGKILL);
        printf("%s: sleeps on\n", name);
    } else {
        write(go[1], "!!", 2);
        write(both[1], "!", 1);
        sem_post(&shared->semaphore);
        shared->word = 1;
        syscall(SYS_futex, &shared->word, FUTEX_WAKE, 1000);
        close(locked[0]);
        lockf(locked[1], F_ULOCK, 0);
        close(open("fifo", O_WRONLY | O_NONBLOCK));
        msgctl(messages, IPC_RMID, NULL);
        semctl(semaphores, 0, IPC_RMID);
        char much[4096];
        fcntl(full[0], F_SETFL, O_NONBLOCK);
        while (!ended(sleeper)) if (read(full[0], much, sizeof much) < 0) usleep(1000);
        printf("%s: %ld %s\n", name, shared->result, shared->result < 0 ? strerrorname_np(shared->error) : "");
    }
    waitpid(sleeper->pid, NULL, 0);
    msgctl(messages, IPC_RMID, NULL);
    semctl(semaphores, 0, IPC_RMID);
    int files[] = {go[0], go[1], full[0], full[1], both[0], both[1], locked[0], locked[1]};
    for (unsigned n = 0; n < sizeof files / sizeof *files; n++) close(files[n]);
}
