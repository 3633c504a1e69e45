/* ssh_lines.c -- see ssh_lines.h.
 *
 * Not a reader of ssh_config: no value is taken from here but HostName's. What is read is which Host lines apply and which files are
 * included, and whether anything in them could make two names differ that meet the same lines. Whatever we are not sure of (Match, Tag,
 * canonical names, a token of the name's outside HostName, quotes or comments where patterns stand, numbers that are addresses in disguise)
 * ends it: ssh is asked about that name alone.
 *
 * The answer is proved by ssh each time: what it says under -v of the first name must be this trace, line for line. */
#include "drive/ssh_lines.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <fcntl.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include "drive/ssh_config.h"

enum { SIZE_MAX_BYTES = 1 << 20, DEPTH_MAX = 8, FILES_MAX = 256 };

typedef struct reader {
    neap_ssh_lines *out;
    const char *name;
    bool system;                    /* the file of the machine: relative includes are beside it */
    int files;
} reader;

typedef struct block { bool active, never; } block;       /* never: inside an include that does not apply */

/* ssh's own pattern: * and ?, and nothing else is special. */
static bool is_match(const char *name, const char *pattern) {
    for (; *pattern; name++, pattern++) {
        if (*pattern == '*') {
            while (*pattern == '*') pattern++;
            if (!*pattern) return true;
            for (; *name; name++) if (is_match(name, pattern)) return true;
            return false;
        }
        if (!*name || (*pattern != '?' && *pattern != *name)) return false;
    }
    return !*name;
}

/* Lines --------------------------------------------------------------------------------------------------------------------------- */

static bool take_host(reader *r, char *words, const char *path, int number, block *b) {
    char *rest = NULL;
    bool active = false;
    if (strpbrk(words, "\"'\\#")) return false;
    for (char *word = strtok_r(words, " \t", &rest); word && !b->never; word = strtok_r(NULL, " \t", &rest)) {
        bool not = *word == '!';
        if (!is_match(r->name, word + not)) continue;
        active = !not;
        if (not) break;
    }
    b->active = active;
    if (active) neap_buf_addf(&r->out->trace, "%s:%d\n", path, number);
    return true;
}

static bool read_file(reader *r, const char *path, bool must, block b, int depth);

static bool take_include(reader *r, char *words, block b, int depth) {
    char *rest = NULL;
    bool ok = !strpbrk(words, "\"'\\#%$");
    for (char *word = strtok_r(words, " \t", &rest); ok && word; word = strtok_r(NULL, " \t", &rest)) {
        glob_t found = {0};
        neap_buf pattern = NEAP_BUF_INIT;
        if (*word == '~' && (word[1] != '/' || r->system || !neap_ssh_home())) return false;
        if (*word == '~') neap_buf_addf(&pattern, "%s%s", neap_ssh_home(), word + 1);
        else if (*word == '/') neap_buf_adds(&pattern, word);
        else if (r->system) neap_buf_addf(&pattern, "/etc/ssh/%s", word);
        else neap_buf_addf(&pattern, "%s/.ssh/%s", neap_ssh_home() ? neap_ssh_home() : "", word);
        int how = glob(pattern.data, 0, NULL, &found);
        ok = how == 0 || how == GLOB_NOMATCH;
        for (size_t i = 0; ok && how == 0 && i < found.gl_pathc; i++) {
            ok = read_file(r, found.gl_pathv[i], true, (block){b.active, b.never || !b.active}, depth + 1);
        }
        globfree(&found);
        neap_buf_close(&pattern);
    }
    return ok;
}

/* HostName of the name: %h is the name. */
static bool take_hostname(reader *r, const char *value) {
    neap_buf place = NEAP_BUF_INIT;
    bool ok = *value && !strpbrk(value, "\"'\\# \t$");
    for (; ok && *value; value++) {
        if (*value != '%') { neap_buf_addc(&place, *value); continue; }
        value++;
        ok = *value == 'h' || *value == '%';
        if (*value == 'h') neap_buf_adds(&place, r->name);
        else neap_buf_addc(&place, '%');
    }
    if (ok && !r->out->hostname) r->out->hostname = neap_strdup(place.data ? place.data : "");
    neap_buf_close(&place);
    return ok;
}

/* Tokens that mean the same for every name. */
static bool is_common(const char *value) {
    for (const char *c = value; (c = strchr(c, '%')); c += 2) if (!c[1] || !strchr("%diLlu", c[1])) return false;
    return true;
}

/* Its text is never asked for (ssh_config_parse.c), so it may differ. */
static bool is_unread(const char *keyword) {
    static const char *const words[] = {"controlpath", "localcommand", "remotecommand", "localforward", "remoteforward", "proxycommand"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) if (strcasecmp(keyword, words[i]) == 0) return true;
    return false;
}

static bool take_line(reader *r, char *line, const char *path, int number, block *b, int depth) {
    size_t len = strlen(line);
    while (len && strchr(" \t\r\f", line[len - 1])) line[--len] = 0;
    line += strspn(line, " \t");
    if (!*line || *line == '#') return true;
    char *value = line;
    while (isalnum((unsigned char)*value)) value++;
    if (value == line || !*value || !strchr(" \t=", *value)) return false;
    bool equals = *value == '=';
    *value++ = 0;
    value += strspn(value, " \t");
    if (!equals && *value == '=') value++;
    value += strspn(value, " \t");
    if (strcasecmp(line, "host") == 0) return take_host(r, value, path, number, b);
    if (strcasecmp(line, "include") == 0) return take_include(r, value, *b, depth);
    if (strcasecmp(line, "hostname") == 0) return b->active && !b->never ? take_hostname(r, value) : true;
    if (strcasecmp(line, "match") == 0 || strcasecmp(line, "tag") == 0 || strncasecmp(line, "canonical", 9) == 0) return false;
    return is_common(value) || is_unread(line);
}

/* Files --------------------------------------------------------------------------------------------------------------------------- */

static char *load(const char *path, struct stat *st) {
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    char *text = NULL;
    if (fd >= 0 && fstat(fd, st) == 0 && S_ISREG(st->st_mode) && st->st_size <= SIZE_MAX_BYTES) {
        text = neap_alloc((size_t)st->st_size + 1);
        ssize_t n = read(fd, text, (size_t)st->st_size);
        if (n == st->st_size && !memchr(text, 0, (size_t)n)) text[n] = 0;
        else free(text), text = NULL;
    }
    if (fd >= 0) close(fd);
    return text;
}

static bool read_file(reader *r, const char *path, bool must, block b, int depth) {
    struct stat st;
    if (!must && access(path, F_OK) != 0) return true;
    char *text = depth <= DEPTH_MAX && ++r->files <= FILES_MAX ? load(path, &st) : NULL;
    if (!text) return false;
    neap_buf_addf(&r->out->trace, "%s\n", path);
    neap_buf_addf(&r->out->files, "%lld %lld %lld %lld.%09ld %lld.%09ld\n", (long long)st.st_dev, (long long)st.st_ino, (long long)st.st_size,
                  (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec, (long long)st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
    bool ok = true;
    char *line = text;
    for (int number = 1; ok && line; number++) {
        char *end = strchr(line, '\n');
        if (end) *end++ = 0;
        ok = take_line(r, line, path, number, &b, depth);
        line = end;
    }
    free(text);
    return ok;
}

/* ssh makes 127.0.0.1 of 127.1, whatever the configuration says: a name stays what it is only when it is no address, or one in its own form. */
static bool is_plain(const char *name) {
    char text[INET6_ADDRSTRLEN];
    struct in6_addr six;
    struct in_addr four;
    if (!*name || *name == '-') return false;
    for (const char *c = name; *c; c++) if (!islower((unsigned char)*c) && !isdigit((unsigned char)*c) && !strchr("._:-", *c)) return false;
    if (strchr(name, ':')) return inet_pton(AF_INET6, name, &six) == 1 && strcmp(inet_ntop(AF_INET6, &six, text, sizeof text), name) == 0;
    return !inet_aton(name, &four) || strcmp(inet_ntop(AF_INET, &four, text, sizeof text), name) == 0;
}

bool neap_ssh_lines_read(neap_ssh_lines *l, const char *file, const char *name) {
    reader r = {.out = l, .name = name};
    const block whole = {true, false};
    *l = (neap_ssh_lines){NEAP_BUF_INIT, NEAP_BUF_INIT, NULL};
    if (!is_plain(name) || !neap_ssh_home()) return false;
    neap_buf own = NEAP_BUF_INIT;
    neap_buf_addf(&own, "%s/.ssh/config", neap_ssh_home());
    bool ok = file ? read_file(&r, file, true, whole, 0) : read_file(&r, own.data, false, whole, 0);
    neap_buf_close(&own);
    r.system = true;
    if (ok && !file) ok = read_file(&r, "/etc/ssh/ssh_config", false, whole, 0);
    if (ok && !l->hostname) l->hostname = neap_strdup(name);
    return ok && is_plain(l->hostname);
}

/* What ssh did -------------------------------------------------------------------------------------------------------------------- */

/* One line of `ssh -v` as one of the trace, or nothing. */
static void add_said(neap_buf *trace, const char *line, size_t len) {
    static const char reads[] = "debug1: Reading configuration data ", head[] = "debug1: ", applies[] = ": Applying options for ";
    const char *found = memmem(line, len, applies, sizeof applies - 1);
    if (len >= sizeof reads && memcmp(line, reads, sizeof reads - 1) == 0) {
        neap_buf_add(trace, line + sizeof reads - 1, len - sizeof reads + 1);
        neap_buf_addc(trace, '\n');
    } else if (found && memcmp(line, head, sizeof head - 1) == 0) {
        const char *number = found, *path = line + sizeof head - 1;
        while (number > path && isdigit((unsigned char)number[-1])) number--;
        if (number - path < 6 || memcmp(number - 6, " line ", 6) != 0) return;
        neap_buf_addf(trace, "%.*s:%.*s\n", (int)(number - 6 - path), path, (int)(found - number), number);
    }
}

static bool is_hostname(const char *printed, const char *hostname) {
    const char *line = strncmp(printed, "hostname ", 9) == 0 ? printed : strstr(printed, "\nhostname ");
    if (!line) return false;
    line += 9 + (*line == '\n');
    return strcspn(line, "\n") == strlen(hostname) && strncmp(line, hostname, strlen(hostname)) == 0;
}

bool neap_ssh_lines_agree(const neap_ssh_lines *l, const char *said, const char *printed) {
    neap_buf trace = NEAP_BUF_INIT;
    while (*said) {
        size_t len = strcspn(said, "\n"), text = len && said[len - 1] == '\r' ? len - 1 : len;
        add_said(&trace, said, text);
        said += len + (said[len] == '\n');
    }
    bool same = trace.len == l->trace.len && (!trace.len || memcmp(trace.data, l->trace.data, trace.len) == 0);
    neap_buf_close(&trace);
    return same && is_hostname(printed, l->hostname);
}

void neap_ssh_lines_close(neap_ssh_lines *l) {
    neap_buf_close(&l->trace);
    neap_buf_close(&l->files);
    free(l->hostname);
    l->hostname = NULL;
}
