/* quote.c -- quoting for POSIX shells: sh, dash, busybox, bash, ksh.
 *
 * Between single quotes nothing has a meaning but the single quote itself, newlines and bytes that are no UTF-8 included, so that
 * is the whole of it: '…', with '\'' for a quote. Words of letters, digits and a few signs stay as they are, for the reader's sake.
 *
 * Left out of those signs: ~ (a home), = (an assignment in front of a command), !, ^ and # (history, comments), and all that
 * POSIX names. A word that begins with a dash is not the shell's business: who builds an argv writes "--".
 * Rejected: $'…' and printf escapes, which dash does not have, and double quotes, in which four signs live on. */
#include "base/quote.h"

#include <string.h>

static const char safe[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-./:,@%+";

/* Those of POSIX that are made of safe letters, and those that bash and ksh add. */
static const char *const reserved[] = {"case", "do", "done", "elif", "else", "esac", "fi", "for", "if", "in", "then", "until", "while",
                                       "function", "select", "time", "coproc", "namespace"};

static bool is_reserved(const char *word, size_t len) {
    for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++)
        if (strlen(reserved[i]) == len && memcmp(reserved[i], word, len) == 0) return true;
    return false;
}

static bool is_plain(const char *word, size_t len) {
    for (size_t i = 0; i < len; i++) if (!strchr(safe, word[i])) return false;
    return len > 0;
}

static void enclose(neap_buf *out, const char *word, size_t len) {
    neap_buf_addc(out, '\'');
    for (const char *quote; (quote = memchr(word, '\'', len)); word = quote + 1) {
        neap_buf_add(out, word, (size_t)(quote - word));
        neap_buf_adds(out, "'\\''");
        len -= (size_t)(quote - word) + 1;
    }
    neap_buf_add(out, word, len);
    neap_buf_addc(out, '\'');
}

bool neap_quote_word(neap_buf *out, const char *word, size_t len) {
    if (memchr(word, 0, len)) return false;
    if (is_plain(word, len)) neap_buf_add(out, word, len);
    else enclose(out, word, len);
    return true;
}

bool neap_quote_add(neap_buf *out, const char *word, size_t len) {
    if (memchr(word, 0, len)) return false;
    if (out->len == 0 && is_reserved(word, len)) return enclose(out, word, len), true;
    if (out->len) neap_buf_addc(out, ' ');
    return neap_quote_word(out, word, len);
}

void neap_quote_argv(neap_buf *out, const char *const *argv) {
    for (; *argv; argv++) neap_quote_add(out, *argv, strlen(*argv));
}
