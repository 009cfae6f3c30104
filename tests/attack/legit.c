/* The permitted program of level `program`: asks for a nonce, sends it back with its request, tells what it heard.
 * Takes the socket and the target, and reads nothing else; without those it only waits. It says what it hears, so that tests hear
 * it too; a workload's program should not.
 *
 * OTHER: another program. ANONYMOUS, PATCHED, HIDDEN: before it asks it executes code in anonymous memory, code of its own that
 * it has changed, and such code of which it has put everything back. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int say(int socket, const char *text) {
    return write(socket, text, strlen(text)) == (ssize_t)strlen(text);
}

#if defined ANONYMOUS || defined PATCHED || defined HIDDEN
/* Alone on its page, so that this page can be changed. */
__attribute__((noinline, noclone, aligned(4096))) int number(int given) { return given + 1; }
__attribute__((noinline, aligned(4096))) void after_it(void) { puts(""); }

static int before_it_asks(void) {
    const int all = PROT_READ | PROT_WRITE | PROT_EXEC;
    int (*volatile called)(int) = number;
    char *page = (char *)((uintptr_t)number & ~(uintptr_t)4095);
#ifdef ANONYMOUS
    char *brought = mmap(NULL, 4096, all, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (brought == MAP_FAILED) return 0;
    /* A copy of what needs no place of its own. */
    memcpy(brought, page, 64);
    called = (int (*)(int))(brought + ((uintptr_t)number & 4095));
    return called(1) == 2;
#else
    if (mprotect(page, 4096, all) != 0) return 0;
    /* The same bytes: what matters is that they were written. */
    char code[64];
    memcpy(code, page, sizeof code);
    for (size_t at = 0; at < sizeof code; at++) ((volatile char *)page)[at] = code[at];
    if (called(1) != 2 || mprotect(page, 4096, PROT_READ | PROT_EXEC) != 0) return 0;
#ifdef HIDDEN
    return madvise(page, 4096, MADV_DONTNEED) == 0;
#endif
    return 1;
#endif
}
#else
static int before_it_asks(void) { return 1; }
#endif

int main(int count, char **words) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char answer[8192] = "", request[1024];
    signal(SIGPIPE, SIG_IGN);
    if (count == 1) {
        for (;;) pause();
    }
    if (count != 3 || strlen(words[1]) >= sizeof address.sun_path || !before_it_asks()) return 2;
    strcpy(address.sun_path, words[1]);
    int line = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (line < 0 || connect(line, (struct sockaddr *)&address, sizeof address) != 0) return 3;
    say(line, "GET /challenge HTTP/1.1\r\nhost: x\r\n\r\n");
    ssize_t length = read(line, answer, sizeof answer - 1);
    char *nonce = length > 0 ? strstr(answer, "\"nonce\":\"") : NULL;
    if (nonce == NULL) {
        printf("unchallenged %s\n", answer);
        return 4;
    }
    snprintf(request, sizeof request,
             "GET %s HTTP/1.1\r\nhost: x\r\nclaviger-nonce: %.32s\r\nconnection: close\r\n\r\n", words[2], nonce + 9);
    say(line, request);
    printf("heard ");
    while ((length = read(line, answer, sizeof answer)) > 0) fwrite(answer, 1, length, stdout);
    printf("\n%s\n", length == 0 || errno == ECONNRESET ? "closed" : "open");
    return 0;
}
