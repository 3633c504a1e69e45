/* remote_script.c -- see remote_script.h.
 *
 * The remote login shell is given one line: exec sh -c 'SCRIPT' neap WORD… It only has to understand single quotes, so a login
 * shell that is no sh will do as well. SCRIPT is POSIX and runs in dash, busybox and bash; it holds no newline.
 *
 * What a shell says of the command comes back on stderr, as lines `\036NONCE WORD…` (remote_filter.h takes them out again). The nonce
 * is fresh, so nothing that is printed by accident is taken for a word:
 *
 *     s PID TICKS   began; TICKS is field 22 of /proc/PID/stat ("-" where there is no /proc), which with the pid names it for ever;
 *                   a third number, where it was asked for, is a neap_remote_shell
 *     e STATUS HOW  ended. Success is this word and nothing else: a status that SSH reports may be a zero that was never sent
 *     x WHY         refused, not begun: cd program setsid state cut
 *     v             void: never begun, and it cannot begin any more
 *     h             half: its directory is there, but neither a pid nor an end
 *     r PID TICKS   still running           g   gone, without a status
 *     k STREAM N    N bytes of this output are passed over
 *     b             the first, on stdout and on stderr (where s may be it): what came before is not the command's
 *     .             on stdout, behind e: all that the command printed has come
 *
 * A status from 129 to 192 is also the shell's way to say "ended by signal STATUS-128". HOW tells the two apart: it is what the shell's list
 * of jobs says of the command, "Done(137)" or "Killed". dash and busybox keep it there behind `wait`; a bash forgets it then, so
 * there SIGCHLD is awaited first, and the list read before the status is. Where nothing is said it is taken for a signal. This is why a command is
 * an asynchronous list in each of the ways below, with the price that SIGINT and SIGQUIT are ignored when it begins, as POSIX has it.
 *
 * What a command leaves behind may keep its outputs open for ever, so their end is no sign that they are whole, and neither is a silence: a line may
 * be slow. Both are pipes, though, and keep the order: where it is asked for, the shell writes a last word into stdout too, and the command's own
 * bytes are those between the first word and it.
 *
 * Attached. The command gets a session of its own (setsid, where there is one), so that its group can be ended by a second exec
 * while the first still listens. Its stdin is the channel behind the prologue and the go line, which are read byte by byte and so
 * leave the rest untouched. A command that is held has told its pid and does nothing before the go line came.
 *
 * Briefly. A process and an exec less, a session less, no byte of stdin to wait for: what a short read costs there is mostly this. sshd gives
 * each channel a session of its own, so where the shell was seen to lead its group (s tells it, once a connection) the group of
 * shell and command can be ended as one; the shell outlives TERM to tell how. It is named by its pid, and by the nonce in its argv
 * instead of a start time that would have to be read first. Where even the login shell is a plain sh, it runs the line itself; a
 * bash is not asked to: it reads ~/.bashrc first, which may change what our words mean. Rejected: no shell beside the command at all. The
 * word e is what proves an end, and a zero of SSH may never have been sent. Rejected too: one shell for all commands
 * of a connection. What a child of one command writes late would be an output of the next.
 *
 * Detached. JOBS/NAME is made by mkdir: who makes it starts the job, everybody else follows, so the same launch may be sent as
 * often as a connection breaks. The job writes pid, out, err, and at last rc by rename; the launcher stays and tells what is written, at
 * most half a second late; the end of the job wakes it (SIGCONT, which harms no stranger that may have got its number).
 * Its stdin lies in a file that is complete before the directory is made, and is unlinked before the job begins. To ask for
 * a job that has no directory makes one with the file `void`: a launch that is late finds that and gives up, so "not begun" is final.
 *
 * Secrets. Values of `secrets` are in the prologue; the shell reads it with dd, byte by byte, and checks that its last line is there: a
 * connection that breaks within it begins nothing. An argv too long for a command line takes the same way.
 *
 * Under sudo all of this runs, shell and all: so that the environment, the directory, the job and its end belong to the same user.
 * Rejected: sudo before the command alone. It drops the environment, and what root runs could not be ended by us. */
#include "drive/remote_script.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/quote.h"

enum { LINE_MOST = 48 * 1024, BRIEF_MOST = 100 * 1024 };         /* Linux takes 128 KiB as one argument, and quotes may multiply */

/* ---- the scripts ---- */

/* t WORD…: say it. b PID: neap_b is its start time; false when it is gone or a zombie. l PID TICKS: lives it or its group? */
#define SAY "t() { printf '\\036%s %s\\n' \"$neap_n\" \"$*\" >&2; }; "
#define BORN                                                                                                             \
    "v() { case $1 in Z|X) return 1;; esac; neap_b=${20}; neap_h=$3; }; "                                                 \
    "b() { neap_b=-; [ -r /proc/self/stat ] || { kill -0 \"$1\" 2>/dev/null; return; }; "                                 \
    "{ IFS= read -r neap_l <\"/proc/$1/stat\"; } 2>/dev/null || return 1; "                                               \
    "case $neap_l in *\") \"*) ;; *) neap_l=$(cat \"/proc/$1/stat\" 2>/dev/null);; esac; v ${neap_l##*\") \"}; }; "
#define LIVES                                                                                                            \
    "l() { if b \"$1\"; then [ \"$neap_b\" = \"$2\" ]; return; fi; kill -0 \"-$1\" 2>/dev/null || return 1; "             \
    "[ -r /proc/self/stat ] || return 0; for neap_f in /proc/[0-9]*; do "                                                 \
    "b \"${neap_f#/proc/}\" && [ \"$neap_h\" = \"$1\" ] && [ \"$neap_b\" -ge \"$2\" ] && return 0; done; return 1; }; "
/* Into the directory of all jobs. */
#define JOBS                                                                                                             \
    "umask 077; case $XDG_STATE_HOME in /*) neap_d=$XDG_STATE_HOME;; *) neap_d=$HOME/.local/state;; esac; "              \
    "{ mkdir -p \"$neap_d/neap/jobs\" && cd \"$neap_d/neap/jobs\"; } 2>/dev/null || { t x state; exit 1; }; "
/* A tenth of a second, or a whole one where sleep knows no other. */
#define NAP "{ sleep 0.1 2>/dev/null || sleep 1; }; "
/* Read the prologue from descriptor 3: $1 bytes that end with a comment that holds the nonce. */
#define PROLOGUE                                                                                                         \
    "p() { neap_p=; [ \"$1\" = 0 ] && return; neap_p=$(dd bs=1 count=\"$1\" 2>/dev/null <&3); "                           \
    "case $neap_p in *\"#$neap_n\") ;; *) t x cut; exit 1;; esac; }; "

/* Wait for the command, neap_f, whose pid is neap_k: its status is neap_r, and of a bash neap_y what its list says. EXPECT stands before it is
 * begun. A wait that a trap cut short says nothing of the command. */
#define EXPECT "[ -z \"$BASH_VERSION\" ] || trap neap_y=1 CHLD; "
#define AWAIT                                                                                                            \
    "neap_r=127; neap_y=; if [ -n \"$BASH_VERSION\" ]; then set -o posix; "                                              \
    "while neap_t=; [ -z \"$neap_y\" ] && kill -0 \"$neap_k\"; do wait \"$neap_k\"; neap_s=$?; "                           \
    "[ -n \"$neap_y$neap_t\" ] || neap_r=$neap_s; done; trap - CHLD; neap_y=$(jobs); fi; "                                \
    "while neap_t=; do wait \"$neap_k\"; neap_s=$?; [ $neap_s = 127 ] || neap_r=$neap_s; [ -n \"$neap_t\" ] || break; done; "
#define JUDGE "if [ -n \"$BASH_VERSION\" ]; then printf '%s\\n' \"$neap_y\"; else jobs; fi; "
/* The word e. Behind what the list says stands an empty word, so that a list which says nothing does not swallow what follows. */
#define ENDED                                                                                                            \
    "if [ $neap_r -gt 128 ] && [ $neap_r -lt 193 ]; then printf '\\036%s e %s ' \"$neap_n\" $neap_r; " JUDGE             \
    "printf '\\036%s \\n' \"$neap_n\"; else printf '\\036%s e %s\\n' \"$neap_n\" $neap_r; fi >&2"

/* The last word of stdout, when neap_m asks for it. Behind e: who closed stdout meanwhile has ended this shell with it. */
#define WHOLE "printf '\\036%s .\\n' \"$neap_n\""

/* The first word of stdout, and of stderr where it stands before the command: what came earlier is the login shell's (a file it reads may print). */
#define BEGINS "printf '\\036%s b\\n' \"$neap_n\"; "

/* w: what this shell is, when neap_w asks for it. */
#define LOOK                                                                                                             \
    "w() { [ -n \"$neap_w\" ] || return; neap_w=; neap_h=; b $$; [ \"$neap_h\" = $$ ] || return; neap_w=1; "             \
    "[ \"$SHELL$BASH_VERSION$ZSH_VERSION$KSH_VERSION\" = /bin/sh ] && neap_w=2; }; "

static const char attached[] =
    "neap_n=$1; neap_k=$2; neap_c=$3; neap_e=$4; neap_w=$5; neap_m=$6; shift 6; " SAY BORN PROLOGUE LOOK BEGINS "t b; "
    "exec 3<&0 </dev/null; p \"$neap_k\"; neap_z=; command -v setsid >/dev/null 2>&1 && neap_z=setsid; "
    "neap_f() { IFS= read -r neap_g; [ \"$neap_g\" = \"go $neap_n\" ] || { t v; exit 1; }; "
    "if [ -n \"$neap_c\" ]; then cd -- \"$neap_c\" 2>/dev/null || { t x cd; exit 1; }; fi; eval \"$neap_p\"; eval \"$neap_e\"; "
    "command -v \"$1\" >/dev/null 2>&1 || { t x program; exit 1; }; "
    "if [ -n \"$neap_z\" ]; then exec \"$neap_z\" \"$@\"; else exec \"$@\"; fi; }; " EXPECT "neap_f \"$@\" <&3 3<&- & "
    "neap_k=$!; exec 3<&-; w; b \"$neap_k\"; t s \"$neap_k\" \"$neap_b\" $neap_w; { " AWAIT "} 2>/dev/null; " ENDED "; "
    "[ -z \"$neap_m\" ] || " WHOLE;

/* The job itself, in a session of its own and in its directory. The shell outlives TERM, so that it can write down how the command
 * did; and what a shell has to say of a command that was killed is no output of the command. */
#define JOB                                                                                                              \
    "neap_u=$1; neap_c=$2; neap_e=$3; shift 3; neap_d=$PWD; trap neap_t=1 TERM HUP INT; exec 5<&0 </dev/null; " BORN     \
    "b $$; echo \"$$ $neap_b\" >pid.part; mv pid.part pid; "                                                             \
    "neap_f() { umask \"$neap_u\"; if [ -n \"$neap_c\" ]; then cd -- \"$neap_c\" 2>/dev/null || { echo x cd >\"$neap_d/why\"; exit 1; }; fi; " \
    "neap_q=$neap_p; unset neap_p; eval \"$neap_q\"; eval \"$neap_e\"; "                                                  \
    "command -v \"$1\" >/dev/null 2>&1 || { echo x program >\"$neap_d/why\"; exit 1; }; exec \"$@\"; }; " EXPECT "neap_f \"$@\" <&5 5<&- & "                                           \
    "neap_k=$!; exec 5<&-; { " AWAIT "} 2>/dev/null; "                                                                   \
    "{ printf 'e %s ' $neap_r; " JUDGE "} >rc.part; if [ -e why ]; then mv why rc; else mv rc.part rc; fi; "             \
    "{ read -r neap_k <teller && kill -CONT \"$neap_k\"; } 2>/dev/null"

/* o FILE OFFSET: tell what was written since; neap_o is the new offset. No more than 1 MiB at once: only the last of it is kept. */
#define TELL                                                                                                             \
    "y() { neap_s=$5; }; o() { neap_o=$2; [ -s \"$1\" ] || return 0; y $(ls -ln \"$1\"); [ \"$neap_s\" -gt \"$2\" ] || return 0; "           \
    "if [ $((neap_s - neap_o)) -gt 1048576 ]; then t k \"$1\" $((neap_s - neap_o - 1048576)); neap_o=$((neap_s - 1048576)); fi; "           \
    "tail -c +$((neap_o + 1)) \"$1\" | head -c $((neap_s - neap_o)); neap_o=$neap_s; }; "

/* The stdin of the job, whole, in a file beside its directory. */
#define SPOOL                                                                                                            \
    "neap_k=; if [ \"$neap_i\" -ge 0 ] && [ ! -d \"$neap_j\" ]; then neap_k=.in.$neap_j.$$; cat <&3 >\"$neap_k\"; y $(ls -ln \"$neap_k\"); " \
    "[ \"$neap_s\" = \"$neap_i\" ] || { rm -f \"$neap_k\"; t x cut; exit 1; }; fi; exec 3<&-; "

/* neap_r is 1 for who made the directory. -2 as length of stdin: it was begun; nobody begins it again. */
#define CLAIM                                                                                                            \
    "neap_r=; neap_a=0; while :; do if [ \"$neap_i\" != -2 ] && mkdir \"$neap_j\" 2>/dev/null; then neap_r=1; break; fi; " \
    "[ -e \"$neap_j/void\" ] && { t v; exit 1; }; [ -e \"$neap_j/pid\" ] && break; [ -e \"$neap_j/rc\" ] && break; "       \
    "neap_a=$((neap_a + 1)); [ $neap_a -gt 50 ] && { t h; exit 1; }; " NAP "done; "

#define BEGIN                                                                                                            \
    "if [ -n \"$neap_r\" ]; then if [ -n \"$neap_k\" ]; then exec 4<\"$neap_k\"; rm -f \"$neap_k\"; else exec 4</dev/null; fi; " \
    "cd \"$neap_j\" || exit 1; : >out; : >err; echo $$ >teller; export neap_p; "                                         \
    "( exec setsid sh -c \"$neap_w\" neap \"$neap_u\" \"$neap_c\" \"$neap_e\" \"$@\" ) <&4 4<&- >>out 2>>err & exec 4<&-; " \
    "else [ -n \"$neap_k\" ] && rm -f \"$neap_k\"; cd \"$neap_j\" || exit 1; echo $$ >teller; fi; "

/* Tell until there is an end. Whoever came later to follow has put its own pid into `teller`, and this one leaves. */
#define FOLLOW                                                                                                           \
    "neap_q=; neap_a=; neap_r=0; neap_v=; trap 'kill -PIPE $neap_q 2>/dev/null' CONT; "                                              \
    "while :; do neap_h=; [ -e rc ] && neap_h=1; "                                                                       \
    "if [ -z \"$neap_a\" ] && [ -e pid ]; then read -r neap_a neap_z <pid; t s \"$neap_a\" \"$neap_z\"; fi; "             \
    "o out \"$neap_x\"; neap_x=$neap_o; o err \"$neap_y\" >&2; neap_y=$neap_o; [ -n \"$neap_h\" ] && break; "             \
    "if [ -n \"$neap_a\" ]; then l \"$neap_a\" \"$neap_z\" || [ -e rc ] || { t g; exit 1; }; "                            \
    "else neap_r=$((neap_r + 1)); [ $neap_r -gt 20 ] && { t h; exit 1; }; fi; "                                           \
    "read -r neap_h <teller; [ \"$neap_h\" = $$ ] || exit 1; "                                                           \
    "if [ -z \"$neap_v\" ]; then neap_v=0.5; sleep 0.0 2>/dev/null || neap_v=1; fi; "                                     \
    "sleep $neap_v </dev/null >/dev/null 2>&1 & neap_q=$!; { [ -e rc ] || wait $neap_q; kill -PIPE $neap_q; } 2>/dev/null; done; " \
    "read -r neap_h <rc; t \"$neap_h\""

static const char launch[] =
    "neap_n=$1; neap_k=$2; neap_c=$3; neap_e=$4; neap_j=$5; neap_i=$6; neap_x=$7; neap_y=$8; neap_w=$9; shift 9; neap_u=$(umask); "
    SAY BORN LIVES PROLOGUE TELL BEGINS "t b; exec 3<&0 </dev/null; p \"$neap_k\"; " JOBS
    "command -v setsid >/dev/null 2>&1 || { t x setsid; exit 1; }; " SPOOL CLAIM BEGIN FOLLOW;

/* $2: j NAME -, or p PID TICKS, or n PID NONCE. After this neap_a and neap_z name the group, or the answer was given. */
#define FIND                                                                                                             \
    "neap_n=$1; " SAY BORN LIVES                                                                                         \
    "d() { read -r neap_h <\"$neap_j/rc\"; t \"$neap_h\"; exit 0; }; "                                                   \
    "if [ \"$2\" = p ]; then neap_j=; neap_a=$3; neap_z=$4; elif [ \"$2\" = n ]; then neap_j=; neap_a=$3; "                \
    "neap_f=; { IFS= read -r neap_f <\"/proc/$3/cmdline\"; } 2>/dev/null; "                                                \
    "case $neap_f in *\"$4\"*) b \"$3\";; *) false;; esac || { t g; exit 0; }; neap_z=$neap_b; "                          \
    "else neap_j=$3; " JOBS                                       \
    "mkdir \"$neap_j\" 2>/dev/null && : >\"$neap_j/void\"; neap_r=0; "                                                   \
    "while [ ! -e \"$neap_j/pid\" ]; do [ -e \"$neap_j/void\" ] && { t v; exit 0; }; neap_r=$((neap_r + 1)); "           \
    "[ $neap_r -gt 30 ] && { t h; exit 0; }; " NAP "done; "                                                              \
    "[ -e \"$neap_j/rc\" ] && d; read -r neap_a neap_z <\"$neap_j/pid\"; fi; "                                           \
    "q() { l \"$neap_a\" \"$neap_z\" && return; [ -n \"$neap_j\" ] && [ -e \"$neap_j/rc\" ] && d; t g; exit 0; }; "

static const char end_it[] =
    FIND
    "k() { kill -\"$1\" \"-$neap_a\" || kill -\"$1\" \"$neap_a\"; } 2>/dev/null; q; k TERM; k CONT; "
    "neap_r=0; while [ $neap_r -lt \"$5\" ]; do q; neap_r=$((neap_r + 1)); " NAP "done; "
    "q; k KILL; neap_r=0; while [ $neap_r -lt 20 ]; do q; neap_r=$((neap_r + 1)); " NAP "done; q; t r \"$neap_a\" \"$neap_z\"";

static const char ask[] =
    FIND
    "neap_r=0; while :; do [ -n \"$neap_j\" ] && [ -e \"$neap_j/rc\" ] && d; q; [ $neap_r -ge \"$5\" ] && break; "
    "neap_r=$((neap_r + 1)); " NAP "done; t r \"$neap_a\" \"$neap_z\"";

static const char forget[] =
    "neap_n=$1; neap_j=$2; " SAY BORN LIVES JOBS
    "u() { [ -e \"$1/rc\" ] && return 0; [ -e \"$1/void\" ] && return 0; [ -e \"$1/pid\" ] || return 0; read -r neap_a neap_z <\"$1/pid\"; "
    "if l \"$neap_a\" \"$neap_z\"; then return 1; fi; }; "
    "[ -d \"$neap_j\" ] && u \"$neap_j\" && rm -rf -- \"$neap_j\"; t g; "
    "find . -name . -o -prune -mtime +7 -print 2>/dev/null | head -n 20 | while IFS= read -r neap_w; do u \"$neap_w\" && rm -rf -- \"$neap_w\"; done";

/* ---- lines ---- */

static void random_hex(char *out, size_t bytes) {
    unsigned char raw[16];
    if (getrandom(raw, bytes, 0) != (ssize_t)bytes) abort();
    for (size_t i = 0; i < bytes; i++) sprintf(out + 2 * i, "%02x", raw[i]);
}

static void add_word(neap_buf *line, const char *word) {
    if (line->len) neap_buf_addc(line, ' ');
    neap_quote_word(line, word, strlen(word));
}

static void add_number(neap_buf *line, long long number) { neap_buf_addf(line, " %lld", number); }

static void begin(neap_remote_text *out, const char *sudo, const char *script) {
    *out = (neap_remote_text){.line = NEAP_BUF_INIT, .input = NEAP_BUF_INIT};
    random_hex(out->nonce, (NEAP_REMOTE_NONCE_SIZE - 1) / 2);
    neap_buf_adds(&out->line, "exec");
    if (sudo) neap_buf_adds(&out->line, " sudo -n -H");
    if (sudo && *sudo) neap_buf_adds(&out->line, " -u"), add_word(&out->line, sudo);
    neap_buf_adds(&out->line, sudo ? " -- sh -c" : " sh -c");
    add_word(&out->line, script);
    neap_buf_addf(&out->line, " neap %s", out->nonce);
}

/* export NAME='value' …, one line of shell. */
static void add_exports(neap_buf *to, const char *const *env) {
    for (; env && *env; env++) {
        size_t name = strcspn(*env, "=");
        neap_buf_adds(to, "export ");
        neap_buf_add(to, *env, name + 1);
        neap_quote_word(to, *env + name + 1, strlen(*env + name + 1));
        neap_buf_adds(to, "; ");
    }
}

static size_t size_of(const char *const *list) {
    size_t size = 0;
    for (; list && *list; list++) size += strlen(*list) + 1;
    return size;
}

/* What goes by stdin: `set --` for an argv that is long, exports of secrets; and the comment that says it is whole. */
static void write_prologue(neap_remote_text *out, const neap_remote_command *c, bool is_long) {
    if (!is_long && !(c->secrets && *c->secrets)) return;
    if (is_long) {
        neap_buf_adds(&out->input, "set --");
        for (const char *const *word = c->argv; *word; word++) add_word(&out->input, *word);
        neap_buf_adds(&out->input, "; ");
        add_exports(&out->input, c->env);
    }
    add_exports(&out->input, c->secrets);
    neap_buf_addf(&out->input, "\n#%s", out->nonce);
}

static bool is_too_long(const neap_remote_command *c) { return size_of(c->argv) + size_of(c->env) > LINE_MOST; }

/* The words that both ways of running share: length of the prologue, directory, environment. */
static void add_place(neap_remote_text *out, const neap_remote_command *c) {
    neap_buf exports = NEAP_BUF_INIT;
    bool is_long = is_too_long(c);
    write_prologue(out, c, is_long);
    if (!is_long) add_exports(&exports, c->env);
    add_number(&out->line, (long long)out->input.len);
    add_word(&out->line, c->cwd ? c->cwd : "");
    add_word(&out->line, exports.data ? exports.data : "");
    neap_buf_close(&exports);
}

static void add_argv(neap_remote_text *out, const neap_remote_command *c) {
    if (is_too_long(c)) add_word(&out->line, "neap");
    else for (const char *const *word = c->argv; *word; word++) add_word(&out->line, *word);
}

void neap_remote_attached(neap_remote_text *out, const neap_remote_command *c, bool looks) {
    begin(out, c->sudo, attached);
    add_place(out, c);
    add_word(&out->line, looks ? "w" : "");
    add_word(&out->line, c->marks ? "m" : "");
    add_argv(out, c);
    out->holds = c->holds;
    out->marks = c->marks;
    if (!c->holds) neap_remote_go(&out->input, out);
}

/* `exec` and not the words alone: a program is meant, and a builtin of that name may do something else. */
static void write_brief(neap_buf *line, const neap_remote_command *c, const char *nonce) {
    neap_buf_addf(line, "neap_n=%s; printf '\\036%%s s %%s -\\n' \"$neap_n\" \"$$\" >&2; ", nonce);
    neap_buf_adds(line, BEGINS);
    if (c->cwd) {
        neap_buf_adds(line, "cd -- ");
        neap_quote_word(line, c->cwd, strlen(c->cwd));
        neap_buf_adds(line, " 2>/dev/null || { printf '\\036%s x cd\\n' \"$neap_n\" >&2; exit 1; }; ");
    }
    add_exports(line, c->env);
    neap_buf_adds(line, "command -v ");
    neap_quote_word(line, c->argv[0], strlen(c->argv[0]));
    neap_buf_adds(line, " >/dev/null 2>&1 || { printf '\\036%s x program\\n' \"$neap_n\" >&2; exit 1; }; neap_f() { exec");
    for (const char *const *word = c->argv; *word; word++) add_word(line, *word);
    neap_buf_adds(line, "; }; trap neap_t=1 TERM; " EXPECT "{ neap_f 2>&3 3>&- & neap_k=$!; " AWAIT "} 3>&2 2>/dev/null </dev/null; " ENDED);
    if (c->marks) neap_buf_adds(line, "; " WHOLE);
}

bool neap_remote_briefly(neap_remote_text *out, const neap_remote_command *c, neap_remote_shell shell) {
    if (shell == NEAP_SHELL_UNKNOWN || c->holds || c->sudo || (c->secrets && *c->secrets) || is_too_long(c)) return false;
    *out = (neap_remote_text){.line = NEAP_BUF_INIT, .input = NEAP_BUF_INIT, .brief = true, .marks = c->marks};
    random_hex(out->nonce, (NEAP_REMOTE_NONCE_SIZE - 1) / 2);
    write_brief(&out->line, c, out->nonce);
    if (shell == NEAP_SHELL_LEADS) {
        neap_buf script = out->line;
        out->line = (neap_buf)NEAP_BUF_INIT;
        neap_buf_adds(&out->line, "exec sh -c");
        add_word(&out->line, script.data);
        neap_buf_close(&script);
    }
    if (out->line.len <= BRIEF_MOST) return true;                /* quotes multiply */
    neap_remote_text_close(out);
    return false;
}

void neap_remote_launch(neap_remote_text *out, const neap_remote_command *c, const char *job, long long input_len, const long long told[2]) {
    begin(out, c->sudo, launch);
    add_place(out, c);
    add_word(&out->line, job);
    add_number(&out->line, input_len);
    add_number(&out->line, told[0]);
    add_number(&out->line, told[1]);
    add_word(&out->line, JOB);
    add_argv(out, c);
}

static void about_group(neap_remote_text *out, const char *sudo, const char *script, long long pid, long long started, long long tenths) {
    begin(out, sudo, script);
    neap_buf_addf(&out->line, " p %lld ", pid);
    if (started > 0) neap_buf_addf(&out->line, "%lld", started);
    else neap_buf_addc(&out->line, '-');
    add_number(&out->line, tenths);
}

static void about_job(neap_remote_text *out, const char *sudo, const char *script, const char *job, long long tenths) {
    begin(out, sudo, script);
    neap_buf_adds(&out->line, " j");
    add_word(&out->line, job);
    neap_buf_adds(&out->line, " -");
    add_number(&out->line, tenths);
}

void neap_remote_end_group(neap_remote_text *out, const char *sudo, long long pid, long long started, int grace_s) {
    about_group(out, sudo, end_it, pid, started, grace_s * 10LL);
}

void neap_remote_end_job(neap_remote_text *out, const char *sudo, const char *job, int grace_s) {
    about_job(out, sudo, end_it, job, grace_s * 10LL);
}

void neap_remote_end_brief(neap_remote_text *out, long long pid, const char *nonce, int grace_s) {
    begin(out, NULL, end_it);
    neap_buf_addf(&out->line, " n %lld %s", pid, nonce);
    add_number(&out->line, grace_s * 10LL);
}

void neap_remote_ask_group(neap_remote_text *out, const char *sudo, long long pid, long long started, int64_t within_ms) {
    about_group(out, sudo, ask, pid, started, within_ms / 100);
}

void neap_remote_ask_job(neap_remote_text *out, const char *sudo, const char *job, int64_t within_ms) {
    about_job(out, sudo, ask, job, within_ms / 100);
}

void neap_remote_forget(neap_remote_text *out, const char *sudo, const char *job) {
    begin(out, sudo, forget);
    add_word(&out->line, job);
}

/* ---- words ---- */

bool neap_remote_is_name(const char *name) {
    if (!*name || isdigit((unsigned char)*name) || strncmp(name, "neap_", 5) == 0) return false;
    for (; *name; name++)
        if (!isalnum((unsigned char)*name) && *name != '_') return false;
    return true;
}

void neap_remote_go(neap_buf *out, const neap_remote_text *text) { neap_buf_addf(out, "go %s\n", text->nonce); }

neap_remote_word neap_remote_read_word(const char *text, size_t len) {
    static const char letters[] = "?sexvhrgk.b";
    neap_remote_word w = {.verb = NEAP_WORD_NONE};
    char line[160], name[16] = "", own[16];
    int shell = 0;
    if (len == 0 || len >= sizeof line) return w;
    memcpy(line, text, len);
    line[len] = 0;
    const char *letter = strchr(letters + 1, line[0]);
    if (!letter || (line[1] && line[1] != ' ')) return w;
    w.verb = (neap_remote_verb)(letter - letters);
    if (w.verb == NEAP_WORD_REFUSED) sscanf(line + 1, "%15s", w.why);
    else if (w.verb == NEAP_WORD_SKIPPED && sscanf(line + 1, "%15s %lld", name, &w.first) != 2) w.verb = NEAP_WORD_NONE;
    else if (w.verb == NEAP_WORD_STARTED && sscanf(line + 1, "%lld %15s %d", &w.first, name, &shell) >= 2) w.second = atoll(name);
    else if (w.verb != NEAP_WORD_SKIPPED) sscanf(line + 1, "%lld %lld", &w.first, &w.second);
    if (w.verb == NEAP_WORD_ENDED) {
        snprintf(own, sizeof own, "(%d)", (int)w.first);
        w.second = strstr(line, own) != NULL;
    }
    if (shell == NEAP_SHELL_LEADS || shell == NEAP_SHELL_PLAIN) w.shell = (neap_remote_shell)shell;
    w.stream = strcmp(name, "err") == 0 ? 2 : 1;
    return w;
}

void neap_remote_name_job(char out[NEAP_REMOTE_JOB_SIZE], const char *hint) {
    size_t at = 0;
    for (; *hint && at < 40; hint++)
        if (isalnum((unsigned char)*hint) || (*hint == '-' && at)) out[at++] = *hint;
    if (at) out[at++] = '-';
    random_hex(out + at, 8);
    out[at + 16] = 0;
}

void neap_remote_text_close(neap_remote_text *t) {
    neap_buf_close(&t->line);
    neap_buf_wipe(&t->input);
}
