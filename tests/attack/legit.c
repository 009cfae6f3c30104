/* The permitted program of level `program`: asks for a nonce, sends it back with its request, tells what it heard.
 * Takes the socket and the target. Reads no other input, so nobody can make it do anything else. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int say(int socket, const char *text) {
    return write(socket, text, strlen(text)) == (ssize_t)strlen(text);
}

int main(int count, char **words) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char answer[8192] = "", request[1024];
    if (count != 3 || strlen(words[1]) >= sizeof address.sun_path) return 2;
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
    printf("\n%s\n", length == 0 ? "closed" : "open");
    return 0;
}
