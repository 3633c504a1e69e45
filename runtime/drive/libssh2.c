/* libssh2.c -- libssh2, loaded when it is first used (base/forward.h).
 *
 * Versions from 1.10 on serve. What came later is looked up at run time (ssh_native.h, neap_libssh2_find), so that one program serves
 * Debian 12 and 13. */
#include <dlfcn.h>
#include <libssh2.h>

#include "base/forward.h"
#include "drive/ssh_native.h"

#define LIBRARY "libssh2.so.1"
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"          /* what 1.11.1 would like better is not in 1.10 */

void *neap_libssh2_find(const char *name) {
    void *handle = dlopen(LIBRARY, RTLD_LAZY | RTLD_LOCAL);
    return handle ? dlsym(handle, name) : NULL;
}

bool neap_libssh2_is(int number) { return libssh2_version(number) != NULL; }

FORWARD(int, libssh2_init, (int flags), (flags))
FORWARD(const char *, libssh2_version, (int required), (required))
FORWARD(LIBSSH2_SESSION *, libssh2_session_init_ex, (LIBSSH2_ALLOC_FUNC((*my_alloc)), LIBSSH2_FREE_FUNC((*my_free)), LIBSSH2_REALLOC_FUNC((*my_realloc)), void *abstract), (my_alloc, my_free, my_realloc, abstract))
FORWARD(void *, libssh2_session_callback_set, (LIBSSH2_SESSION *session, int cbtype, void *callback), (session, cbtype, callback))
FORWARD(int, libssh2_session_method_pref, (LIBSSH2_SESSION *session, int method_type, const char *prefs), (session, method_type, prefs))
FORWARD(int, libssh2_session_supported_algs, (LIBSSH2_SESSION *session, int method_type, const char ***algs), (session, method_type, algs))
FORWARD(int, libssh2_session_handshake, (LIBSSH2_SESSION *session, libssh2_socket_t sock), (session, sock))
FORWARD(int, libssh2_session_disconnect_ex, (LIBSSH2_SESSION *session, int reason, const char *description, const char *lang), (session, reason, description, lang))
FORWARD(int, libssh2_session_free, (LIBSSH2_SESSION *session), (session))
FORWARD(const char *, libssh2_session_hostkey, (LIBSSH2_SESSION *session, size_t *len, int *type), (session, len, type))
FORWARD(const char *, libssh2_session_banner_get, (LIBSSH2_SESSION *session), (session))
FORWARD(int, libssh2_session_last_error, (LIBSSH2_SESSION *session, char **errmsg, int *errmsg_len, int want_buf), (session, errmsg, errmsg_len, want_buf))
FORWARD(int, libssh2_session_last_errno, (LIBSSH2_SESSION *session), (session))
FORWARD(int, libssh2_session_set_last_error, (LIBSSH2_SESSION *session, int errcode, const char *errmsg), (session, errcode, errmsg))
FORWARD_VOID(libssh2_session_set_blocking, (LIBSSH2_SESSION *session, int blocking), (session, blocking))
FORWARD(char *, libssh2_userauth_list, (LIBSSH2_SESSION *session, const char *username, unsigned int username_len), (session, username, username_len))
FORWARD(int, libssh2_userauth_authenticated, (LIBSSH2_SESSION *session), (session))
FORWARD(int, libssh2_userauth_publickey, (LIBSSH2_SESSION *session, const char *username, const unsigned char *pubkeydata, size_t pubkeydata_len, LIBSSH2_USERAUTH_PUBLICKEY_SIGN_FUNC((*sign_callback)), void **abstract), (session, username, pubkeydata, pubkeydata_len, sign_callback, abstract))
FORWARD(LIBSSH2_CHANNEL *, libssh2_channel_open_ex, (LIBSSH2_SESSION *session, const char *channel_type, unsigned int channel_type_len, unsigned int window_size, unsigned int packet_size, const char *message, unsigned int message_len), (session, channel_type, channel_type_len, window_size, packet_size, message, message_len))
FORWARD(LIBSSH2_CHANNEL *, libssh2_channel_direct_tcpip_ex, (LIBSSH2_SESSION *session, const char *host, int port, const char *shost, int sport), (session, host, port, shost, sport))
FORWARD(int, libssh2_channel_process_startup, (LIBSSH2_CHANNEL *channel, const char *request, unsigned int request_len, const char *message, unsigned int message_len), (channel, request, request_len, message, message_len))
FORWARD(ssize_t, libssh2_channel_read_ex, (LIBSSH2_CHANNEL *channel, int stream_id, char *buf, size_t buflen), (channel, stream_id, buf, buflen))
FORWARD(ssize_t, libssh2_channel_write_ex, (LIBSSH2_CHANNEL *channel, int stream_id, const char *buf, size_t buflen), (channel, stream_id, buf, buflen))
FORWARD(int, libssh2_channel_get_exit_status, (LIBSSH2_CHANNEL *channel), (channel))
FORWARD(int, libssh2_channel_get_exit_signal, (LIBSSH2_CHANNEL *channel, char **exitsignal, size_t *exitsignal_len, char **errmsg, size_t *errmsg_len, char **langtag, size_t *langtag_len), (channel, exitsignal, exitsignal_len, errmsg, errmsg_len, langtag, langtag_len))
FORWARD(int, libssh2_channel_send_eof, (LIBSSH2_CHANNEL *channel), (channel))
FORWARD(int, libssh2_channel_eof, (LIBSSH2_CHANNEL *channel), (channel))
FORWARD(int, libssh2_channel_wait_closed, (LIBSSH2_CHANNEL *channel), (channel))
FORWARD(int, libssh2_channel_free, (LIBSSH2_CHANNEL *channel), (channel))
FORWARD_VOID(libssh2_free, (LIBSSH2_SESSION *session, void *ptr), (session, ptr))

/* Leaks of libssh2 1.10's own, so that LeakSanitizer speaks of ours: the host key at each exchange of keys, the ephemeral key of a
 * handshake that was given up, and two numbers of an ECDSA key that is read from a file (below OpenSSL, where no stack leads back). */
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) { return "leak:libssh2.so\n"; }
#else
#define __lsan_disable() ((void)0)
#define __lsan_enable() ((void)0)
#endif

int libssh2_userauth_publickey_fromfile_ex(LIBSSH2_SESSION *session, const char *username, unsigned int username_len, const char *publickey,
                                           const char *privatekey, const char *passphrase) {
    NEAP_FORWARD_NAMESAKE(libssh2_userauth_publickey_fromfile_ex);
    __lsan_disable();
    int rc = namesake(session, username, username_len, publickey, privatekey, passphrase);
    __lsan_enable();
    return rc;
}
