/* libpq.c -- libpq, loaded when it is first used (base/forward.h).
 *
 * Linked in the ordinary way it brings 25 more libraries into every start (TLS, Kerberos, LDAP): 2.3 ms and 4 MB, measured, which
 * is a third of a runbook of one step that talks to no database. "libpq.so.5" is its name since 2006. */
#include <libpq-fe.h>

#include "base/forward.h"

#define LIBRARY "libpq.so.5"

FORWARD(int, PQbackendPID, (const PGconn *conn), (conn))
FORWARD(int, PQcancel, (PGcancel *cancel, char *errbuf, int errbufsize), (cancel, errbuf, errbufsize))
FORWARD_VOID(PQclear, (PGresult *res), (res))
FORWARD(char *, PQcmdStatus, (PGresult *res), (res))
FORWARD(char *, PQcmdTuples, (PGresult *res), (res))
FORWARD(PostgresPollingStatusType, PQconnectPoll, (PGconn *conn), (conn))
FORWARD(PGconn *, PQconnectStartParams, (const char *const *keywords, const char *const *values, int expand_dbname), (keywords, values, expand_dbname))
FORWARD(int, PQconnectionNeedsPassword, (const PGconn *conn), (conn))
FORWARD(int, PQconnectionUsedPassword, (const PGconn *conn), (conn))
FORWARD(PQconninfoOption *, PQconninfo, (PGconn *conn), (conn))
FORWARD_VOID(PQconninfoFree, (PQconninfoOption *connOptions), (connOptions))
FORWARD(int, PQconsumeInput, (PGconn *conn), (conn))
FORWARD(int, PQenterPipelineMode, (PGconn *conn), (conn))
FORWARD(char *, PQerrorMessage, (const PGconn *conn), (conn))
FORWARD(char *, PQencryptPasswordConn, (PGconn *conn, const char *passwd, const char *user, const char *algorithm), (conn, passwd, user, algorithm))
FORWARD(char *, PQescapeIdentifier, (PGconn *conn, const char *str, size_t len), (conn, str, len))
FORWARD(char *, PQescapeLiteral, (PGconn *conn, const char *str, size_t len), (conn, str, len))
FORWARD(int, PQexitPipelineMode, (PGconn *conn), (conn))
FORWARD_VOID(PQfinish, (PGconn *conn), (conn))
FORWARD(int, PQflush, (PGconn *conn), (conn))
FORWARD(char *, PQfname, (const PGresult *res, int field_num), (res, field_num))
FORWARD_VOID(PQfreeCancel, (PGcancel *cancel), (cancel))
FORWARD_VOID(PQfreemem, (void *ptr), (ptr))
FORWARD(Oid, PQftype, (const PGresult *res, int field_num), (res, field_num))
FORWARD(PGcancel *, PQgetCancel, (PGconn *conn), (conn))
FORWARD(int, PQgetCopyData, (PGconn *conn, char **buffer, int async), (conn, buffer, async))
FORWARD(PGresult *, PQgetResult, (PGconn *conn), (conn))
FORWARD(int, PQgetisnull, (const PGresult *res, int tup_num, int field_num), (res, tup_num, field_num))
FORWARD(int, PQgetlength, (const PGresult *res, int tup_num, int field_num), (res, tup_num, field_num))
FORWARD(char *, PQgetvalue, (const PGresult *res, int tup_num, int field_num), (res, tup_num, field_num))
FORWARD(char *, PQhost, (const PGconn *conn), (conn))
FORWARD(char *, PQhostaddr, (const PGconn *conn), (conn))
FORWARD(int, PQisBusy, (PGconn *conn), (conn))
FORWARD(int, PQlibVersion, (void), ())
FORWARD(int, PQnfields, (const PGresult *res), (res))
FORWARD(int, PQntuples, (const PGresult *res), (res))
FORWARD(const char *, PQparameterStatus, (const PGconn *conn, const char *paramName), (conn, paramName))
FORWARD(int, PQpipelineSync, (PGconn *conn), (conn))
FORWARD(char *, PQport, (const PGconn *conn), (conn))
FORWARD(int, PQputCopyData, (PGconn *conn, const char *buffer, int nbytes), (conn, buffer, nbytes))
FORWARD(int, PQputCopyEnd, (PGconn *conn, const char *errormsg), (conn, errormsg))
FORWARD(char *, PQresultErrorField, (const PGresult *res, int fieldcode), (res, fieldcode))
FORWARD(char *, PQresultErrorMessage, (const PGresult *res), (res))
FORWARD(ExecStatusType, PQresultStatus, (const PGresult *res), (res))
FORWARD(int, PQsendQueryParams, (PGconn *conn, const char *command, int nParams, const Oid *paramTypes, const char *const *paramValues, const int *paramLengths, const int *paramFormats, int resultFormat), (conn, command, nParams, paramTypes, paramValues, paramLengths, paramFormats, resultFormat))
FORWARD(int, PQserverVersion, (const PGconn *conn), (conn))
FORWARD(PQnoticeReceiver, PQsetNoticeReceiver, (PGconn *conn, PQnoticeReceiver proc, void *arg), (conn, proc, arg))
FORWARD(int, PQsetnonblocking, (PGconn *conn, int arg), (conn, arg))
FORWARD(int, PQsocket, (const PGconn *conn), (conn))
FORWARD(int, PQsslInUse, (PGconn *conn), (conn))
FORWARD(ConnStatusType, PQstatus, (const PGconn *conn), (conn))
FORWARD(PGTransactionStatusType, PQtransactionStatus, (const PGconn *conn), (conn))
FORWARD(unsigned char *, PQunescapeBytea, (const unsigned char *strtext, size_t *retbuflen), (strtext, retbuflen))

#ifdef LIBPQ_HAS_ASYNC_CANCEL
FORWARD(PGcancelConn *, PQcancelCreate, (PGconn *conn), (conn))
FORWARD(int, PQcancelStart, (PGcancelConn *cancelConn), (cancelConn))
FORWARD(PostgresPollingStatusType, PQcancelPoll, (PGcancelConn *cancelConn), (cancelConn))
FORWARD(int, PQcancelSocket, (const PGcancelConn *cancelConn), (cancelConn))
FORWARD_VOID(PQcancelFinish, (PGcancelConn *cancelConn), (cancelConn))
#endif

/* GnuTLS comes with libpq's LDAP and prepares itself when it is loaded, which takes a megabyte, unless the program has this function
 * (GNUTLS_SKIP_GLOBAL_INIT in gnutls.h, a weak symbol of the library). OpenLDAP prepares it when it needs it. */
int _gnutls_global_init_skip(void);
int _gnutls_global_init_skip(void) { return 1; }
