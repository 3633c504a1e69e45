/* ssh_native_agent.c -- asking an ssh-agent, on the loop: libssh2's own agent code blocks while the agent asks its owner.
 *
 *     IDLE --ask--> ASKED --the whole answer--> answered --> IDLE            any error: answered(err), final
 *
 * Draft-miller-ssh-agent: each message is counted by four bytes. One question at a time; whoever asks waits, and frees to stop. */
#include "drive/ssh_native.h"

#include <stdlib.h>

enum { ANSWER_MOST = 256 * 1024 };

struct neap_ssh_agent {
    neap_stream *stream;
    neap_buf in;
    neap_ssh_agent_fn answered;
    void *arg;
};

neap_ssh_agent *neap_ssh_agent_new(neap_loop *loop, const char *path, neap_err *err) {
    int fd = neap_unix_connect(path, err);
    if (fd < 0) return NULL;
    neap_ssh_agent *a = neap_zalloc(sizeof *a);
    a->stream = neap_stream_of_fd(loop, fd);
    return a;
}

/* `answered` may free the agent. */
static void answer(neap_ssh_agent *a, const unsigned char *body, size_t len, const neap_err *err) {
    neap_ssh_agent_fn answered = a->answered;
    a->answered = NULL;
    if (answered) answered(a->arg, body, len, err);
}

static void fail(neap_ssh_agent *a, const char *why) {
    neap_err err = NEAP_ERR_INIT;
    neap_err_set(&err, NEAP_E_PROTOCOL, "the ssh agent %s", why);
    answer(a, NULL, 0, &err);
    neap_err_close(&err);
}

static void on_got(void *arg, const char *data, ssize_t len, const neap_err *err) {
    neap_ssh_agent *a = arg;
    uint32_t size;
    if (!a->answered) return;
    if (len <= 0) { fail(a, err && err->message ? err->message : "closed its connection"); return; }
    neap_buf_add(&a->in, data, (size_t)len);
    neap_ssh_reader r = {(unsigned char *)a->in.data, (unsigned char *)a->in.data + a->in.len};
    bool counted = neap_ssh_read_u32(&r, &size);
    if (counted && (size == 0 || size > ANSWER_MOST)) { fail(a, "gave an answer without sense"); return; }
    if (!counted || (size_t)(r.end - r.at) < size) { neap_stream_read(a->stream, ANSWER_MOST, on_got, a); return; }
    neap_buf whole = a->in;
    a->in = (neap_buf)NEAP_BUF_INIT;
    answer(a, r.at, size, NULL);
    neap_buf_close(&whole);
}

static void on_written(void *arg, const neap_err *err) {
    neap_ssh_agent *a = arg;
    if (err && a->answered) fail(a, "does not take a question");
}

void neap_ssh_agent_ask(neap_ssh_agent *a, const neap_buf *question, neap_ssh_agent_fn answered, void *arg) {
    neap_buf framed = NEAP_BUF_INIT;
    a->answered = answered;
    a->arg = arg;
    neap_ssh_put_string(&framed, question->data, question->len);
    neap_stream_read(a->stream, ANSWER_MOST, on_got, a);
    if (a->answered) neap_stream_write(a->stream, framed.data, framed.len, on_written, a);
    neap_buf_close(&framed);
}

void neap_ssh_agent_free(neap_ssh_agent *a) {
    if (!a) return;
    a->answered = NULL;
    neap_stream_free(a->stream);
    neap_buf_close(&a->in);
    free(a);
}
