/* pg_error.c -- libpq's words as neap_err.
 *
 * An answer carries fields; a refused connection only text. libpq 15 does not give the SQLSTATE of a FATAL that ends a
 * connection attempt, so the few that matter are told apart by what libpq knows (was a password asked for?) and, last, by the
 * words of an English server. A wrong guess changes the hint, never the fact. Texts are kept as they came: the sinks escape
 * and redact them.
 */
#include "drive/pg_private.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

static bool begins(const char *text, const char *with) { return strncmp(text, with, strlen(with)) == 0; }

/* Serialization failure, deadlock, lock not available, too many connections, starting up. */
static bool may_retry(const char *state) {
    static const char *const states[] = {"40001", "40P01", "55P03", "53300", "57P03", NULL};
    for (const char *const *s = states; *s; s++)
        if (strcmp(state, *s) == 0) return true;
    return false;
}

static char *without_newline(const char *text) {
    size_t len = strlen(text);
    while (len && text[len - 1] == '\n') len--;
    return neap_strndup(text, len);
}

void neap_pg_error(neap_err *err, const PGresult *result) {
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    const char *detail = PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL);
    const char *hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);
    if (!state) {
        char *text = without_newline(PQresultErrorMessage(result));
        neap_err_set(err, NEAP_E_CLOSED, "%s", *text ? text : "the connection was lost");
        free(text);
        return;
    }
    bool goodbye = begins(state, "57P0") && strcmp(state, "57P03") != 0;
    neap_err_set(err, goodbye ? NEAP_E_CLOSED : NEAP_E_REMOTE, "%s%s%s", primary ? primary : "the server reports a failure",
                 detail ? ": " : "", detail ? detail : "");
    strncpy(err->sqlstate, state, sizeof err->sqlstate - 1);
    err->retry = may_retry(state);
    if (hint) neap_err_hint(err, "%s", hint);
}

void neap_pg_error_lost(neap_err *err, PGconn *conn) {
    char *text = without_newline(conn ? PQerrorMessage(conn) : "");
    neap_err_set(err, NEAP_E_CLOSED, "%s", *text ? text : "the server closed the connection");
    free(text);
}

static bool says(const char *text, const char *words) { return strstr(text, words) != NULL; }

static void refused(neap_err *err, PGconn *conn, const char *text) {
    bool database = says(text, "database \"") && says(text, "does not exist");
    bool full = says(text, "too many connections") || says(text, "remaining connection slots");
    bool starting = says(text, "the database system is ");         /* starting up, not yet accepting connections, shutting down, in recovery mode */
    if (database) {
        neap_err_set(err, NEAP_E_REMOTE, "%s", text);
        strcpy(err->sqlstate, "3D000");
    } else if (full || starting) {
        neap_err_set(err, NEAP_E_UNREACHABLE, "%s", text);
        strcpy(err->sqlstate, full ? "53300" : "57P03");
        err->retry = true;
    } else {
        neap_err_set(err, NEAP_E_AUTH, "%s", text);
        if (PQconnectionNeedsPassword(conn))
            neap_err_hint(err, "The server asks for a password: give one as a secret in the inventory, or by a passfile (mode 0600).");
        else if (PQconnectionUsedPassword(conn)) neap_err_hint(err, "The password that was sent is not the role's.");
    }
}

void neap_pg_error_connection(neap_err *err, PGconn *conn) {
    char *text = without_newline(conn ? PQerrorMessage(conn) : "no memory for a connection");
    if (says(text, "FATAL:") || (conn && PQconnectionNeedsPassword(conn))) {
        refused(err, conn, text);
    } else {
        neap_err_set(err, NEAP_E_UNREACHABLE, "%s", *text ? text : "the server does not answer");
        err->retry = true;
    }
    free(text);
}
