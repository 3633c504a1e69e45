/* tls_trust.c -- whom a TLS connection believes, and what it says when it does not.
 *
 * OpenSSL verifies; what it finds is told in words that name the certificate: which one of the chain, issued by whom, valid until when,
 * for which names. "certificate verify failed" sends people to switch the verification off.
 *
 * A key with a passphrase is refused instead of asked for: OpenSSL would read it from the terminal and hold the loop.
 */
#include "drive/tls_private.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"

enum { NAMES_MOST = 4, TEXT_MOST = 300, NAME_MOST = 255 };

/* Settings ----------------------------------------------------------------------------------- */

/* The newest reason in OpenSSL's queue, which is empty afterwards. */
static const char *reason(void) {
    unsigned long code = ERR_peek_last_error();
    const char *text = ERR_reason_error_string(code);
    ERR_clear_error();
    return text ? text : "OpenSSL does not say why";
}

static int no_passphrase(char *buf, int size, int writing, void *arg) {
    (void)buf, (void)size, (void)writing, (void)arg;
    return -1;
}

static bool readable(const char *path, const char *what, neap_err *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0) close(fd);
    return fd >= 0 || neap_err_set(err, NEAP_E_CONFIG, "cannot read %s \"%s\": %s", what, path, strerror(errno));
}

static bool trust(SSL_CTX *context, const neap_tls_options *o, neap_err *err) {
    if (!o->ca) return SSL_CTX_set_default_verify_paths(context) == 1 || neap_err_set(err, NEAP_E_CONFIG, "cannot read the system's certificates: %s", reason());
    if (!readable(o->ca, "the certificates of", err)) return false;
    return SSL_CTX_load_verify_file(context, o->ca) == 1 || neap_err_set(err, NEAP_E_CONFIG, "there are no certificates in \"%s\": %s", o->ca, reason());
}

static bool introduce(SSL_CTX *context, const neap_tls_options *o, neap_err *err) {
    const char *key = o->key ? o->key : o->cert;
    if (!o->cert) return !o->key || neap_err_set(err, NEAP_E_CONFIG, "the key \"%s\" is of no use without a certificate", o->key);
    if (!readable(o->cert, "the client's certificate", err) || !readable(key, "the client's key", err)) return false;
    if (SSL_CTX_use_certificate_chain_file(context, o->cert) != 1)
        return neap_err_set(err, NEAP_E_CONFIG, "\"%s\" holds no certificate: %s", o->cert, reason());
    SSL_CTX_set_default_passwd_cb(context, no_passphrase);
    if (SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) == 1 && SSL_CTX_check_private_key(context) == 1) return true;
    neap_err_set(err, NEAP_E_CONFIG, "the key in \"%s\" cannot be used: %s", key, reason());
    return neap_err_hint(err, "It must be PEM, belong to the certificate, and have no passphrase.");
}

static int on_verified(int good, X509_STORE_CTX *store);

neap_tls *neap_tls_new(const neap_tls_options *o, neap_err *err) {
    if (!o->name && !o->lax) return neap_err_set(err, NEAP_E_CONFIG, "there is no name that the certificate could prove"), NULL;
    if (o->name && (!*o->name || strlen(o->name) > NAME_MOST)) return neap_err_set(err, NEAP_E_CONFIG, "\"%.20s…\" is no name of a host", o->name), NULL;
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    if (!context) return neap_err_set(err, NEAP_E_MEMORY, "cannot prepare TLS: %s", reason()), NULL;
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_verify(context, o->lax ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, o->lax ? NULL : on_verified);
    if ((!o->lax && !trust(context, o, err)) || !introduce(context, o, err)) {
        SSL_CTX_free(context);
        return NULL;
    }
    neap_tls *t = neap_zalloc(sizeof *t);
    *t = (neap_tls){.context = context, .name = o->name ? neap_strdup(o->name) : NULL, .lax = o->lax, .holds = 1};
    return t;
}

neap_tls *neap_tls_hold(neap_tls *t) {
    t->holds++;
    return t;
}

void neap_tls_release(neap_tls *t) {
    if (!t || --t->holds) return;
    SSL_CTX_free(t->context);
    free(t->name);
    free(t);
}

/* What is wrong with a certificate ------------------------------------------------------------ */

/* Text of a far end: short, and as it came (sinks escape it). */
static void add_bounded(neap_buf *out, const char *text, size_t len) {
    neap_buf_add(out, text, len < TEXT_MOST ? len : TEXT_MOST);
    if (len > TEXT_MOST) neap_buf_adds(out, "…");
}

static char *name_text(const X509_NAME *name) {
    neap_buf out = NEAP_BUF_INIT;
    BIO *text = BIO_new(BIO_s_mem());
    char *bytes = NULL;
    if (text && name && X509_NAME_print_ex(text, name, 0, XN_FLAG_RFC2253) >= 0) {
        long len = BIO_get_mem_data(text, &bytes);
        add_bounded(&out, bytes, (size_t)len);
    }
    BIO_free(text);
    if (!out.len) neap_buf_adds(&out, "without a name");
    return neap_buf_take(&out);
}

static void add_name(neap_buf *out, const GENERAL_NAME *name) {
    const ASN1_OCTET_STRING *ip = name->d.iPAddress;
    if (out->len) neap_buf_adds(out, ", ");
    if (name->type == GEN_DNS) {
        add_bounded(out, (const char *)ASN1_STRING_get0_data(name->d.dNSName), (size_t)ASN1_STRING_length(name->d.dNSName));
    } else {
        char text[INET6_ADDRSTRLEN] = "";
        int family = ASN1_STRING_length(ip) == 4 ? AF_INET : AF_INET6;
        if (ASN1_STRING_length(ip) == 4 || ASN1_STRING_length(ip) == 16) inet_ntop(family, ASN1_STRING_get0_data(ip), text, sizeof text);
        neap_buf_adds(out, text);
    }
}

/* The names a certificate is for: its own list, or (old ones) its subject. */
static char *names_of(X509 *certificate) {
    neap_buf out = NEAP_BUF_INIT;
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    int shown = 0, count = names ? sk_GENERAL_NAME_num(names) : 0;
    for (int i = 0; i < count; i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != GEN_DNS && name->type != GEN_IPADD) continue;
        if (shown++ < NAMES_MOST) add_name(&out, name);
    }
    if (shown > NAMES_MOST) neap_buf_addf(&out, " and %d more", shown - NAMES_MOST);
    GENERAL_NAMES_free(names);
    return out.len ? neap_buf_take(&out) : name_text(X509_get_subject_name(certificate));
}

static void add_day(neap_buf *out, const ASN1_TIME *time) {
    struct tm tm = {0};
    if (ASN1_TIME_to_tm(time, &tm)) neap_buf_addf(out, "%04d-%02d-%02d", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday);
    else neap_buf_adds(out, "a day nobody can read");
}

static void wrong_day(X509 *certificate, const char *subject, bool expired, neap_err *err) {
    neap_buf day = NEAP_BUF_INIT;
    add_day(&day, expired ? X509_get0_notAfter(certificate) : X509_get0_notBefore(certificate));
    neap_err_set(err, NEAP_E_AUTH, expired ? "the certificate \"%s\" expired on %s" : "the certificate \"%s\" is not valid before %s", subject, day.data);
    neap_err_hint(err, "Renew it; or, if this machine's clock is wrong, set it.");
    neap_buf_close(&day);
}

static void wrong_name(const neap_tls *t, X509 *certificate, neap_err *err) {
    char *names = names_of(certificate);
    neap_err_set(err, NEAP_E_AUTH, "the certificate is for %s, not for \"%s\"", names, t->name);
    neap_err_hint(err, "Use a name that the certificate has, or have it issued for this one.");
    free(names);
}

static void describe(const neap_tls *t, X509_STORE_CTX *store, neap_err *err) {
    int error = X509_STORE_CTX_get_error(store);
    X509 *certificate = X509_STORE_CTX_get_current_cert(store);
    if (!certificate) {
        neap_err_set(err, NEAP_E_AUTH, "the certificate of \"%s\" is refused: %s", t->name, X509_verify_cert_error_string(error));
        return;
    }
    char *subject = name_text(X509_get_subject_name(certificate)), *issuer = name_text(X509_get_issuer_name(certificate));
    switch (error) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID:
        wrong_day(certificate, subject, error == X509_V_ERR_CERT_HAS_EXPIRED, err);
        break;
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        wrong_name(t, certificate, err);
        break;
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
        neap_err_set(err, NEAP_E_AUTH, "the certificate \"%s\" of \"%s\" was issued by \"%s\", which is not trusted here", subject, t->name, issuer);
        neap_err_hint(err, "Name the file of the authority that issued it as ca.");
        break;
    default:
        neap_err_set(err, NEAP_E_AUTH, "the certificate \"%s\" of \"%s\" is refused: %s", subject, t->name, X509_verify_cert_error_string(error));
    }
    free(subject);
    free(issuer);
}

/* The first flaw counts; OpenSSL then ends the handshake. */
static int on_verified(int good, X509_STORE_CTX *store) {
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    neap_tls_verdict *verdict = SSL_get_ex_data(ssl, 0);
    if (!good && !verdict->flaw.code) describe(verdict->tls, store, &verdict->flaw);
    return good;
}

/* Sessions ------------------------------------------------------------------------------------ */

static bool expect(SSL *ssl, const neap_tls *t) {
    unsigned char number[sizeof(struct in6_addr)];
    bool is_number = inet_pton(AF_INET, t->name, number) == 1 || inet_pton(AF_INET6, t->name, number) == 1;
    if (!is_number && SSL_set_tlsext_host_name(ssl, t->name) != 1) return false;
    if (t->lax) return true;
    X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return (is_number ? X509_VERIFY_PARAM_set1_ip_asc(param, t->name) : X509_VERIFY_PARAM_set1_host(param, t->name, 0)) == 1;
}

SSL *neap_tls_session(neap_tls_verdict *verdict) {
    SSL *ssl = SSL_new(verdict->tls->context);
    if (!ssl) return NULL;
    SSL_set_ex_data(ssl, 0, verdict);
    SSL_set_connect_state(ssl);
    if (!verdict->tls->name || expect(ssl, verdict->tls)) return ssl;
    SSL_free(ssl);
    return NULL;
}

/* Alerts of the far end come as SSL_AD_REASON_OFFSET + the alert's number. */
static bool is_about_us(int reason_code) {
    switch (reason_code - SSL_AD_REASON_OFFSET) {
    case SSL_AD_BAD_CERTIFICATE: case SSL_AD_UNSUPPORTED_CERTIFICATE: case SSL_AD_CERTIFICATE_REVOKED: case SSL_AD_CERTIFICATE_EXPIRED:
    case SSL_AD_CERTIFICATE_UNKNOWN: case SSL_AD_UNKNOWN_CA: case SSL_AD_ACCESS_DENIED: case SSL_AD_CERTIFICATE_REQUIRED: return true;
    default: return false;
    }
}

void neap_tls_explain(neap_tls_verdict *verdict, neap_err *err) {
    int code = ERR_GET_REASON(ERR_peek_last_error());
    const char *who = verdict->tls->name ? verdict->tls->name : "the far end", *text = reason();
    if (verdict->flaw.code) {
        neap_err_move(err, &verdict->flaw);
    } else if (is_about_us(code)) {
        neap_err_set(err, NEAP_E_AUTH, "\"%s\" does not accept who we are: %s", who, text);
        neap_err_hint(err, "Give a client certificate that it accepts as cert and key.");
    } else if (code == SSL_R_WRONG_VERSION_NUMBER || code == SSL_R_HTTP_REQUEST || code == SSL_R_PACKET_LENGTH_TOO_LONG) {
        neap_err_set(err, NEAP_E_PROTOCOL, "\"%s\" does not speak TLS: %s", who, text);
    } else {
        neap_err_set(err, NEAP_E_PROTOCOL, "TLS with \"%s\" failed: %s", who, text);
    }
}
