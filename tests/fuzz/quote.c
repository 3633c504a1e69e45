/* quote.c -- words for a POSIX shell: a reader that knows nothing but the shell's own rules gives back every word. */
#include <stdbool.h>
#include <string.h>

#include "base/quote.h"
#include "fuzz.h"

/* Characters that mean nothing to a shell outside quotes, wherever they stand in a word. */
static bool is_plain(unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c && strchr("_-./:,+%@^=", c));
}

/* The next word of `line` (XCU 2.2: single quotes, backslash, double quotes without expansion), moved past it; false at the end. */
static bool next_word(const char **line, neap_buf *word) {
    const char *at = *line + strspn(*line, " ");
    neap_buf_clear(word);
    if (!*at) return false;
    while (*at && *at != ' ') {
        if (*at == '\'') {
            const char *end = strchr(++at, '\'');
            NEAP_FUZZ_CHECK(end);
            neap_buf_add(word, at, (size_t)(end - at));
            at = end + 1;
        } else if (*at == '"') {
            for (at++; *at != '"'; neap_buf_addc(word, *at++)) NEAP_FUZZ_CHECK(*at && !strchr("$`\\!", *at));
            at++;
        } else if (*at == '\\') {
            NEAP_FUZZ_CHECK(at[1] && at[1] != '\n');
            neap_buf_addc(word, at[1]);
            at += 2;
        } else {
            NEAP_FUZZ_CHECK(is_plain((unsigned char)*at));
            neap_buf_addc(word, *at++);
        }
    }
    *line = at;
    return true;
}

/* The first word must be quoted where the shell would read more into it. */
static void check_first(const char *line) {
    static const char *const reserved[] = {"if", "then", "else", "elif", "fi", "do", "done", "case", "esac", "while", "until", "for", "in"};
    size_t len = strcspn(line, " ");
    for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++)
        NEAP_FUZZ_CHECK(strlen(reserved[i]) != len || strncmp(line, reserved[i], len) != 0);
    NEAP_FUZZ_CHECK(!memchr(line, '=', len) || memchr(line, '\'', len) || memchr(line, '"', len) || memchr(line, '\\', len));
}

NEAP_FUZZ(quote) {
    enum { MOST = 64 };
    const char *argv[MOST + 1];
    neap_buf text = NEAP_BUF_INIT, line = NEAP_BUF_INIT, word = NEAP_BUF_INIT;
    int count = 0;
    neap_buf_add(&text, data, size);
    for (size_t at = 0; at < size && count < MOST; at += strlen(text.data + at) + 1) argv[count++] = text.data + at;
    argv[count] = NULL;
    neap_quote_argv(&line, argv);
    const char *rest = line.data ? line.data : "";
    if (count) check_first(rest);
    for (int i = 0; i < count; i++) {
        NEAP_FUZZ_CHECK(next_word(&rest, &word));
        NEAP_FUZZ_CHECK(word.len == strlen(argv[i]) && (!word.len || memcmp(word.data, argv[i], word.len) == 0));
    }
    NEAP_FUZZ_CHECK(!next_word(&rest, &word));
    neap_buf_clear(&line);
    NEAP_FUZZ_CHECK(!memchr(data, '\0', size) || !neap_quote_word(&line, (const char *)data, size));
    neap_buf_close(&text);
    neap_buf_close(&line);
    neap_buf_close(&word);
    return 0;
}
