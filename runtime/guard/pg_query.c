/* pg_query.c -- PostgreSQL's grammar, loaded when the first statement is looked at (base/forward.h): its tables of pointers cost every
 * start 0.25 ms and 0.6 MB, measured. Its soname changes with each version; the build asks the one it compiles against. */
#include <pg_query.h>

#include "base/forward.h"

#define LIBRARY NEAP_PG_QUERY

FORWARD(PgQueryParseResult, pg_query_parse, (const char *input), (input))
FORWARD(PgQuerySplitResult, pg_query_split_with_parser, (const char *input), (input))
FORWARD_VOID(pg_query_free_parse_result, (PgQueryParseResult result), (result))
FORWARD_VOID(pg_query_free_split_result, (PgQuerySplitResult result), (result))
FORWARD(PgQueryProtobufParseResult, pg_query_parse_protobuf, (const char *input), (input))
FORWARD(PgQueryDeparseResult, pg_query_deparse_protobuf, (PgQueryProtobuf tree), (tree))
FORWARD_VOID(pg_query_free_protobuf_parse_result, (PgQueryProtobufParseResult result), (result))
FORWARD_VOID(pg_query_free_deparse_result, (PgQueryDeparseResult result), (result))
