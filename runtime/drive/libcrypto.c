/* libcrypto.c -- the half of OpenSSL that reads certificates, loaded when it is first used (base/forward.h): relocating it is a millisecond and
 * half a megabyte of every start. The digests alone are linked, from its archive (base/hash.c). */
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "base/forward.h"

#define LIBRARY "libcrypto.so.3"

FORWARD(const unsigned char *, ASN1_STRING_get0_data, (const ASN1_STRING *x), (x))
FORWARD(int, ASN1_STRING_length, (const ASN1_STRING *x), (x))
FORWARD(int, ASN1_TIME_to_tm, (const ASN1_TIME *s, struct tm *tm), (s, tm))
FORWARD(long, BIO_ctrl, (BIO *bp, int cmd, long larg, void *parg), (bp, cmd, larg, parg))
FORWARD(int, BIO_free, (BIO *a), (a))
FORWARD(BIO *, BIO_new, (const BIO_METHOD *type), (type))
FORWARD(const BIO_METHOD *, BIO_s_mem, (void), ())
FORWARD(int, BIO_write, (BIO *b, const void *data, int dlen), (b, data, dlen))
FORWARD_VOID(ERR_clear_error, (void), ())
FORWARD(unsigned long, ERR_peek_last_error, (void), ())
FORWARD(const char *, ERR_reason_error_string, (unsigned long e), (e))
FORWARD_VOID(GENERAL_NAMES_free, (GENERAL_NAMES *a), (a))
FORWARD(int, OPENSSL_sk_num, (const OPENSSL_STACK *st), (st))
FORWARD(void *, OPENSSL_sk_value, (const OPENSSL_STACK *st, int i), (st, i))
FORWARD(const char *, OpenSSL_version, (int type), (type))
FORWARD(int, X509_NAME_print_ex, (BIO *out, const X509_NAME *nm, int indent, unsigned long flags), (out, nm, indent, flags))
FORWARD(X509 *, X509_STORE_CTX_get_current_cert, (const X509_STORE_CTX *ctx), (ctx))
FORWARD(int, X509_STORE_CTX_get_error, (const X509_STORE_CTX *ctx), (ctx))
FORWARD(void *, X509_STORE_CTX_get_ex_data, (const X509_STORE_CTX *ctx, int idx), (ctx, idx))
FORWARD(int, X509_VERIFY_PARAM_set1_host, (X509_VERIFY_PARAM *param, const char *name, size_t namelen), (param, name, namelen))
FORWARD(int, X509_VERIFY_PARAM_set1_ip_asc, (X509_VERIFY_PARAM *param, const char *ipasc), (param, ipasc))
FORWARD_VOID(X509_VERIFY_PARAM_set_hostflags, (X509_VERIFY_PARAM *param, unsigned int flags), (param, flags))
FORWARD(const ASN1_TIME *, X509_get0_notAfter, (const X509 *x), (x))
FORWARD(const ASN1_TIME *, X509_get0_notBefore, (const X509 *x), (x))
FORWARD(void *, X509_get_ext_d2i, (const X509 *x, int nid, int *crit, int *idx), (x, nid, crit, idx))
FORWARD(X509_NAME *, X509_get_issuer_name, (const X509 *a), (a))
FORWARD(X509_NAME *, X509_get_subject_name, (const X509 *a), (a))
FORWARD(const char *, X509_verify_cert_error_string, (long n), (n))
