/* policy.c -- the rules that are never a matter of taste.
 *
 * Promise: in an environment that is `protected`, none of the commands below is started: not by `run`, not by a read that its author
 * declares harmless, not here, on a host or in a container, not behind a shell's -c. There is no flag and no field of the inventory that
 * lets one through: whoever needs it does it by hand, or calls the environment unprotected, in daylight.
 *
 * They are the commands that guides tell people to type and that take a database with them: development's half of the migration tools
 * (`migrate dev` offers to reset what it finds different, `db push` changes tables without a migration, the flags that only these have),
 * scripts that reset or seed, and the Redis commands that empty a database.
 *
 * A rule is held against the act as people read it and against every other spelling the binding knows, with white space squeezed; options may
 * stand between the words of one. Words have edges: "db:resetting" and "migrate deploy" are nobody's business. Rejected: rules in the
 * inventory only (the environment that needs them most is the one whose author forgot them), and reading scripts (`npm run x` may be
 * anything; what it starts is not ours to see, and the manual says so). */
#include "guard/policy.h"

#include <regex.h>

#define EDGE "(^|[^[:alnum:]_:.-])"
#define END "($|[^[:alnum:]_:-])"
#define BETWEEN "([ \"']+-[^ ]*([ ]+[^ -][^ ]*)?)*[ \"']+"            /* options, with or without a value */

static const struct { const char *name, *pattern, *why, *instead; } rules[] = {
    {"migrate reset", EDGE "migrate" BETWEEN "reset" END, "it drops everything in the database", "Restore a backup, or make a database of another name."},
    {"migrate dev", EDGE "migrate" BETWEEN "dev" END, "it is for development and may reset the database", "Deploy with postgres/migrate; drift is read from a catalogue, never with dev."},
    {"db push", EDGE "db" BETWEEN "push" END, "it changes tables without a migration and may drop them", "Write a migration and deploy it with postgres/migrate."},
    {"drizzle-kit push", EDGE "drizzle-kit(@[^ ]*)?" BETWEEN "(push|drop)" END, "it changes tables or migrations behind the history's back", "Generate a migration and deploy it with postgres/migrate."},
    {"--force-reset", EDGE "--force-reset" END, "it drops everything in the database", "Restore a backup, or make a database of another name."},
    {"--skip-generate", EDGE "--skip-generate" END, "only development's commands have it (migrate dev, db push)", "In production migrations are deployed: migrate deploy."},
    {"db:reset", EDGE "db:(reset|push|drop)($|[^[:alnum:]_-])", "such a script drops everything in the database", "Restore a backup, or make a database of another name."},
    {"seed:all", EDGE "seed:(all|users)($|[^[:alnum:]_-])", "it writes development's rows among the customers'", "Insert what is missing by a migration."},
    {"SEED_ON_START", EDGE "SEED_ON_START[= ]+[\"']?(true|yes|on|1)" END, "the application would seed its database whenever it starts", "SEED_ON_START=false."},
    {"FLUSHALL", EDGE "flush(all|db)" END, "it empties every database of the server, or this one, in one command", "Remove what has a prefix: redis/flush-prefix."},
};

enum { RULES = sizeof rules / sizeof *rules };

static regex_t compiled[RULES];                    /* made once, by the loop's thread; kept until the process ends */

static void compile(void) {
    static bool ready;
    for (int i = 0; i < RULES && !ready; i++) (void)regcomp(&compiled[i], rules[i].pattern, REG_EXTENDED | REG_ICASE | REG_NOSUB);
    ready = true;
}

bool neap_policy_concerns(neap_primitive p) {
    switch (p) {
    case NEAP_P_PROCESS_RUN: case NEAP_P_PROCESS_READ: case NEAP_P_HOST_RUN: case NEAP_P_HOST_READ:
    case NEAP_P_DOCKER_EXEC: case NEAP_P_DOCKER_ASK: case NEAP_P_DOCKER_CHANGE: case NEAP_P_REDIS_WRITE: case NEAP_P_REDIS_REMOVE: return true;
    default: return false;
    }
}

bool neap_policy_check(const char *spelling, neap_err *err) {
    compile();
    for (int i = 0; i < RULES; i++) {
        if (regexec(&compiled[i], spelling, 0, NULL, 0) != 0) continue;
        neap_err_set(err, NEAP_E_REFUSED, "\"%s\" is never run in a protected environment: %s", rules[i].name, rules[i].why);
        return neap_err_hint(err, "%s No flag overrides this rule.", rules[i].instead);
    }
    return true;
}

const char *neap_policy_name(size_t index, const char **why) {
    if (index >= RULES) return NULL;
    *why = rules[index].why;
    return rules[index].name;
}
