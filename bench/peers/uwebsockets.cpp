// uWebSockets, as its own EchoServer example is written: `send` from the handler, and for --broadcast `publish`, which
// reaches every other subscriber and is batched by the library until the end of the turn.
#include "App.h"

#include <cstdio>
#include <cstring>

int main(int argc, char **argv)
{
    static const bool broadcast = argc > 1 && strcmp(argv[1], "--broadcast") == 0;
    struct Nothing {};

    uWS::App app;
    app.ws<Nothing>("/*", {
        .compression = uWS::DISABLED,
        .maxPayloadLength = 16 * 1024 * 1024,
        .idleTimeout = 120,
        .maxBackpressure = 64 * 1024 * 1024,
        .open = [](auto *ws) { if (broadcast) ws->subscribe("all"); },
        .message = [](auto *ws, std::string_view message, uWS::OpCode opcode) {
            if (broadcast) ws->publish("all", message, opcode);
            else ws->send(message, opcode);
        },
    });
    app.listen("127.0.0.1", 0, [](auto *listener) {
        if (!listener) exit(EXIT_FAILURE);
        printf("listening on 127.0.0.1:%d\n", us_socket_local_port(0, reinterpret_cast<us_socket_t *>(listener)));
        fflush(stdout);
    });
    app.run();
}
