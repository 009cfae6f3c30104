/* What a process of the workload's own user tries at level `program`: the first argument says which.
 * Tells on standard output what it heard, as the other attackers do; does not judge that. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* How long anything may take, in milliseconds. */
#define PATIENCE 20000
#define MOST 256
#define CHALLENGE "GET /challenge HTTP/1.1\r\nhost: x\r\n\r\n"
#define SECRET "GET /secrets/stripe HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
#define GUESS "claviger-nonce: 00000000000000000000000000000000\r\n"

static void panic(const char *what) {
    fprintf(stderr, "panicked: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int need(int done, const char *what) {
    if (done < 0) panic(what);
    return done;
}

static int line_to(const char *path, int flags) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    int line = need(socket(AF_UNIX, SOCK_STREAM | flags, 0), "socket");
    need(connect(line, (struct sockaddr *)&address, sizeof address), "connect");
    return line;
}

/* What is closed by now cannot be written to; what can be heard is what counts. */
static void say(int line, const char *text) { (void)!write(line, text, strlen(text)); }

/* One piece; its length, 0 at the end, -1 if none comes. */
static ssize_t piece(int line, char *text, size_t room) {
    struct pollfd asked = {.fd = line, .events = POLLIN};
    if (poll(&asked, 1, PATIENCE) != 1) return -1;
    ssize_t length = read(line, text, room - 1);
    if (length < 0) length = 0;
    text[length] = 0;
    return length;
}

/* One write for all: the lines of several attackers do not mix. */
static void listen_to(int line) {
    static char heard[65536] = "heard ";
    size_t end = 6;
    ssize_t length;
    while (end < sizeof heard - 32 && (length = piece(line, heard + end, sizeof heard - 16 - end)) > 0) end += length;
    end += sprintf(heard + end, "%s\n%s\n", end == 6 ? "\"\"" : "", length == 0 ? "closed" : "open");
    (void)!write(1, heard, end);
}

/* The nonce in an answer, or NULL. */
static char *nonce_in(char *answer) {
    char *nonce = strstr(answer, "\"nonce\":\"");
    if (nonce == NULL) return NULL;
    nonce[9 + 32] = 0;
    return nonce + 9;
}

static void say_with(int line, const char *nonce) {
    char request[1024];
    snprintf(request, sizeof request, SECRET "claviger-nonce: %s\r\n\r\n", nonce);
    say(line, request);
}

/* A child that becomes the permitted program; here when it is. `traced`: it stands still then, and this is its tracer. */
static pid_t start_legit(char **words, int traced) {
    int held[2];
    need(pipe2(held, O_CLOEXEC), "pipe");
    pid_t child = need(fork(), "fork");
    if (child == 0) {
        if (traced) need(ptrace(PTRACE_TRACEME, 0, 0, 0), "ptrace");
        execv(words[0], words);
        panic("execv");
    }
    close(held[1]);
    (void)!read(held[0], held, 1);
    close(held[0]);
    if (traced) need(waitpid(child, NULL, 0), "waitpid");
    return child;
}

/* The last word of its program's code, in which there is nothing. */
static long end_of_code(pid_t pid, const char *program) {
    char name[64], row[512], rights[8], path[256];
    long start, end;
    snprintf(name, sizeof name, "/proc/%d/maps", pid);
    FILE *maps = fopen(name, "r");
    if (maps == NULL) panic("maps");
    while (fgets(row, sizeof row, maps) != NULL) {
        *path = 0;
        sscanf(row, "%lx-%lx %7s %*s %*s %*s %255s", &start, &end, rights, path);
        if (rights[2] == 'x' && strcmp(path, program) == 0) {
            fclose(maps);
            return end - 8;
        }
    }
    panic("no code");
    return 0;
}

static int stay(void *_) {
    (void)_;
    close_range(3, ~0U, 0);
    for (;;) pause();
    return 0;
}

/* A process that has our memory, and so keeps it when we become another program; gone when we are. */
static pid_t share_memory(void) {
    char *stack = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    return need(clone(stay, stack + 65536, CLONE_VM | SIGCHLD, NULL), "clone");
}

/* Connects, asks in this way, becomes the permitted program after so many microseconds; a child has the connection. */
static void become_one(char **words, int delay, int ready) {
    const char *way = words[4];
    char answer[8192], *nonce;
    int line = line_to(words[0], 0), held[2];
    pid_t keeper = strcmp(way, "memory") == 0 ? share_memory() : 0;
    need(pipe2(held, O_CLOEXEC), "pipe");
    if (need(fork(), "fork") == 0) {
        pid_t parent = getppid();
        close(held[1]);
        (void)!read(held[0], answer, 1);
        say(ready, "x");
        close(ready);
        if (strcmp(way, "echo") == 0 && piece(line, answer, sizeof answer) > 0 && (nonce = nonce_in(answer)) != NULL) {
            say_with(line, nonce);
        }
        listen_to(line);
        if (keeper > 0) kill(keeper, SIGKILL);
        kill(parent, SIGKILL);
        exit(0);
    }
    if (strcmp(way, "self") == 0) {
        say(line, CHALLENGE);
        if (piece(line, answer, sizeof answer) > 0 && (nonce = nonce_in(answer)) != NULL) {
            say_with(line, nonce);
        } else {
            printf("heard %s\nclosed\n", answer);
            fflush(stdout);
        }
    } else if (strcmp(way, "echo") == 0) {
        say(line, CHALLENGE);
    } else if (strcmp(way, "both") == 0) {
        say(line, CHALLENGE SECRET GUESS "\r\n");
    } else if (strcmp(way, "guess") == 0) {
        say(line, SECRET GUESS "\r\n");
    } else {
        say(line, SECRET "\r\n");
    }
    if (delay > 0) usleep(delay);
    execl(words[1], words[1], NULL);
    panic("execl");
}

/* SOCKET LEGIT COUNT DELAY WAY */
static int become(char **words) {
    int ready[2];
    char byte;
    need(pipe2(ready, O_CLOEXEC), "pipe");
    for (int number = 0; number < atoi(words[2]); number++) {
        if (need(fork(), "fork") == 0) {
            close(ready[0]);
            become_one(words, atoi(words[3]), ready[1]);
        }
    }
    close(ready[1]);
    while (read(ready[0], &byte, 1) == 1);
    say(1, "ready\n");
    while (wait(NULL) > 0);
    return 0;
}

/* SOCKET LEGIT TARGET HOW: changes the code of the permitted program. */
static int patch(char **words) {
    char *line[] = {words[1], words[0], words[2], NULL}, name[64];
    int by_file = strcmp(words[3], "file") == 0;
    pid_t child = start_legit(line, !by_file);
    if (by_file) {
        snprintf(name, sizeof name, "/proc/%d/mem", child);
        int memory = need(open(name, O_RDWR), "mem");
        need(pwrite(memory, "changed!", 8, end_of_code(child, words[1])), "pwrite");
        close(memory);
    } else if (strcmp(words[3], "poke") == 0) {
        need(ptrace(PTRACE_POKETEXT, child, end_of_code(child, words[1]), 0x0123456789abcdef), "poke");
        need(ptrace(PTRACE_DETACH, child, 0, 0), "detach");
    } else {
        need(ptrace(PTRACE_CONT, child, 0, 0), "cont");
    }
    say(1, "ready\n");
    need(waitpid(child, NULL, 0), "waitpid");
    return 0;
}

/* How often it has written. */
static int written(pid_t pid) {
    char name[64], row[256];
    int times = 0;
    snprintf(name, sizeof name, "/proc/%d/io", pid);
    FILE *told = fopen(name, "r");
    if (told == NULL) panic("io");
    while (fgets(row, sizeof row, told) != NULL) sscanf(row, "syscw: %d", &times);
    fclose(told);
    return times;
}

/* A copy of its connection, once it has written so often. */
static int copy_line(pid_t pid, int times) {
    char name[64], target[64];
    for (int waited = 0; written(pid) < times; waited++) {
        if (waited > PATIENCE) panic("it does not write");
        usleep(1000);
    }
    int pidfd = need(syscall(SYS_pidfd_open, pid, 0), "pidfd_open");
    for (int number = 3; number < 16; number++) {
        snprintf(name, sizeof name, "/proc/%d/fd/%d", pid, number);
        ssize_t length = readlink(name, target, sizeof target - 1);
        if (length > 7 && strncmp(target, "socket:", 7) == 0) {
            return need(syscall(SYS_pidfd_getfd, pidfd, number, 0), "pidfd_getfd");
        }
    }
    panic("no connection");
    return -1;
}

/* A descriptor that no process has open while it is on its way. */
static int through_a_queue(int line) {
    int pair[2];
    char byte = 'x', room[CMSG_SPACE(sizeof(int))] = "";
    struct iovec bytes = {&byte, 1};
    struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    struct cmsghdr *passed = CMSG_FIRSTHDR(&message);
    *passed = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(passed), &line, sizeof line);
    need(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), "socketpair");
    need(sendmsg(pair[0], &message, 0), "sendmsg");
    close(line);
    say(1, "ready\n");
    /* Until somebody says that it may go on. */
    (void)!read(0, &byte, 1);
    need(recvmsg(pair[1], &message, 0), "recvmsg");
    memcpy(&line, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof line);
    return line;
}

/* SOCKET LEGIT TARGET HOW: takes the connection of the permitted program, which waits for its answer meanwhile. */
static int copy(char **words) {
    char *line[] = {words[1], words[0], words[2], NULL};
    pid_t child = start_legit(line, 0);
    int asks = strcmp(words[3], "ask") == 0;
    int copied = copy_line(child, asks ? 1 : 2);
    if (asks) {
        say(copied, SECRET GUESS "\r\n");
        say(1, "ready\n");
    } else {
        need(kill(child, SIGSTOP), "kill");
        copied = through_a_queue(copied);
    }
    listen_to(copied);
    kill(child, SIGKILL);
    need(waitpid(child, NULL, 0), "waitpid");
    return 0;
}

/* LEGIT SOCKET TARGET: the permitted program, from a file that has no name. */
static int nameless(char **words) {
    int from = need(open(words[0], O_RDONLY), "open"), memory = need(memfd_create("legit", MFD_CLOEXEC), "memfd");
    struct stat told;
    char *variables[] = {NULL};
    need(fstat(from, &told), "fstat");
    need(sendfile(memory, from, NULL, told.st_size), "sendfile");
    fexecve(memory, words, variables);
    panic("fexecve");
    return 1;
}

/* LEGIT SOCKET TARGET: the permitted program, as a child of nobody that started it. */
static int loose(char **words) {
    int held[2];
    need(pipe(held), "pipe");
    if (need(fork(), "fork") == 0) {
        pid_t parent = getpid();
        if (need(fork(), "fork") != 0) exit(0);
        while (getppid() == parent) usleep(1000);
        execv(words[0], words);
        panic("execv");
    }
    close(held[1]);
    /* It has the other end until it ends. */
    (void)!read(held[0], held, 1);
    return 0;
}

/* SOCKET LEGIT COUNT UID: one connects, asks and ends; the permitted program gets its number. Needs root. */
static int reuse(char **words) {
    int count = atoi(words[2]), id = atoi(words[3]), lines[MOST], hits = 0, status;
    pid_t others[MOST];
    char *idle[] = {words[1], NULL};
    if (count > MOST) panic("too many");
    for (int number = 0; number < count; number++) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        strncpy(address.sun_path, words[0], sizeof address.sun_path - 1);
        lines[number] = need(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
        pid_t first = need(fork(), "fork");
        if (first == 0) {
            need(setresgid(id, id, id) | setresuid(id, id, id), "setresuid");
            need(connect(lines[number], (struct sockaddr *)&address, sizeof address), "connect");
            say(lines[number], SECRET "\r\n");
            exit(0);
        }
        if (waitpid(first, &status, 0) != first || status != 0) panic("the first");
        int last = need(open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC), "ns_last_pid");
        dprintf(last, "%d", first - 1);
        close(last);
        int held[2];
        need(pipe2(held, O_CLOEXEC), "pipe");
        others[number] = need(fork(), "fork");
        if (others[number] == 0) {
            need(setresgid(id, id, id) | setresuid(id, id, id), "setresuid");
            execv(words[1], idle);
            panic("execv");
        }
        hits += others[number] == first;
        close(held[1]);
        (void)!read(held[0], held, 1);
        close(held[0]);
    }
    printf("reused %d\nready\n", hits);
    fflush(stdout);
    for (int number = 0; number < count; number++) {
        listen_to(lines[number]);
        kill(others[number], SIGKILL);
        need(waitpid(others[number], NULL, 0), "waitpid");
    }
    return 0;
}

/* SOCKET: asks for whatever its input says, having sent back the nonce; `become PROGRAM`, and a child listens. */
static int relay(char **words) {
    char answer[65536], line_in[1024], request[2048], *nonce;
    int line = line_to(words[0], 0);
    say(line, CHALLENGE);
    if (piece(line, answer, sizeof answer) <= 0 || (nonce = nonce_in(answer)) == NULL) {
        printf("unchallenged %s\n", answer);
        return 4;
    }
    char echo[33];
    strcpy(echo, nonce);
    say(1, "challenged\n");
    while (fgets(line_in, sizeof line_in, stdin) != NULL) {
        line_in[strcspn(line_in, "\n")] = 0;
        int becomes = strncmp(line_in, "become", 6) == 0;
        char *target = becomes ? strrchr(line_in, ' ') + 1 : line_in;
        snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nhost: x\r\nclaviger-nonce: %s\r\n\r\n", target, echo);
        say(line, request);
        if (becomes) {
            char *program = strchr(line_in, ' ') + 1;
            target[-1] = 0;
            pid_t keeper = strncmp(line_in, "become-keeping", 14) == 0 ? share_memory() : 0;
            if (need(fork(), "fork") == 0) {
                listen_to(line);
                if (keeper > 0) kill(keeper, SIGKILL);
                kill(getppid(), SIGKILL);
                exit(0);
            }
            execl(program, program, NULL);
            panic("execl");
        }
        ssize_t length = piece(line, answer, sizeof answer);
        printf("heard %s\n%s\n", answer, length > 0 ? "answered" : length == 0 ? "closed" : "open");
        fflush(stdout);
        if (length <= 0) return 0;
    }
    return 0;
}

/* SOCKET LEGIT FOLDER: connects and begins to ask; becomes the permitted program, whose output is that connection, and which is
 * told the nonce by a socket of ours. */
static int repeat(char **words) {
    char answer[8192], *nonce;
    static char told[16384];
    struct sockaddr_un agents = {.sun_family = AF_UNIX}, ours = {.sun_family = AF_UNIX};
    strncpy(agents.sun_path, words[0], sizeof agents.sun_path - 1);
    snprintf(ours.sun_path, sizeof ours.sun_path, "%s/ours", words[2]);
    int listener = need(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
    need(bind(listener, (struct sockaddr *)&ours, sizeof ours), "bind");
    need(listen(listener, 1), "listen");
    int line = need(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
    pid_t child = need(fork(), "fork");
    if (child == 0) {
        need(connect(line, (struct sockaddr *)&agents, sizeof agents), "connect");
        say(line, CHALLENGE SECRET "x-repeated: ");
        need(dup2(line, 1), "dup2");
        execl(words[1], words[1], ours.sun_path, "/", NULL);
        panic("execl");
    }
    /* It has become that by now. */
    int legits = need(accept(listener, NULL, NULL), "accept");
    say(1, "ready\n");
    if (piece(line, answer, sizeof answer) <= 0 || (nonce = nonce_in(answer)) == NULL) {
        printf("unchallenged %s\n", answer);
    } else {
        piece(legits, told, sizeof told);
        say(legits, "\"nonce\":\"00000000000000000000000000000000\"");
        piece(legits, told, sizeof told);
        int length = sprintf(told, "\r\nclaviger-nonce: %s\r\n\r\n", nonce);
        /* More than it keeps before it says it. */
        memset(told + length, ' ', sizeof told - length - 1);
        say(legits, told);
        listen_to(line);
    }
    kill(child, SIGKILL);
    need(waitpid(child, NULL, 0), "waitpid");
    return 0;
}

int main(int count, char **words) {
    signal(SIGPIPE, SIG_IGN);
    struct { const char *name; int words; int (*play)(char **); } parts[] = {
        {"become", 5, become}, {"patch", 4, patch}, {"copy", 4, copy}, {"nameless", 3, nameless},
        {"loose", 3, loose},   {"reuse", 4, reuse}, {"relay", 1, relay},
        {"repeat", 3, repeat},
    };
    for (size_t part = 0; part < sizeof parts / sizeof *parts; part++) {
        if (count >= 2 && strcmp(words[1], parts[part].name) == 0 && count == 2 + parts[part].words) {
            return parts[part].play(words + 2);
        }
    }
    return 2;
}
