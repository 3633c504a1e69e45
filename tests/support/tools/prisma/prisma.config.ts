// Prisma's command line through the schema engine that its npm package holds as WebAssembly, so that nothing has to be
// downloaded beside the package. What adapter-pg 6.19 gets wrong is put right here; the stand-in for the native engine
// files is in ../prisma.sh.
import { PrismaPg } from "@prisma/adapter-pg";
import pg from "pg";
import { defineConfig } from "prisma/config";

// The engine never clears the timer of its ten seconds for the advisory lock, and would keep the process that long after
// every command. While it really waits for the lock, the connection keeps the process alive, and the timer still counts.
const plainTimeout = globalThis.setTimeout;
(globalThis as any).setTimeout = (act: any, ms?: number, ...rest: any[]) => {
  const timer: any = plainTimeout(act, ms, ...rest);
  if (ms !== undefined && ms >= 10000) timer.unref?.();
  return timer;
};

const NAME = 19;
const TEXT = 25;

// The adapter cannot read columns of type "name", which the catalogs are full of: it is told that they are text.
const query = (pg as any).Query.prototype;
const described = query.handleRowDescription;
query.handleRowDescription = function (message: any) {
  for (const field of message.fields) {
    if (field.dataTypeID === NAME) field.dataTypeID = TEXT;
  }
  return described.call(this, message);
};

// The adapter cuts a script at every semicolon. The native engine sends it whole: one implicit transaction.
function sendingWhole(connection: any) {
  connection.executeScript = async (script: string) => {
    try {
      await connection.client.query(script);
    } catch (error) {
      connection.onError(error);
    }
  };
  return connection;
}

// Given as one string, the adapter would take the real database for the shadow database.
function adapter() {
  const url = new URL(process.env.DATABASE_URL!);
  const factory: any = new PrismaPg({
    host: url.searchParams.get("host") ?? url.hostname,
    port: Number(url.port || "5432"),
    user: decodeURIComponent(url.username),
    password: decodeURIComponent(url.password),
    database: decodeURIComponent(url.pathname.slice(1)),
    options: url.searchParams.get("options") ?? undefined,
    allowExitOnIdle: true,
  });
  for (const method of ["connect", "connectToShadowDb"]) {
    const original = factory[method].bind(factory);
    factory[method] = async () => sendingWhole(await original());
  }
  return factory;
}

export default defineConfig({
  experimental: { adapter: true },
  engine: "js",
  schema: "prisma/schema.prisma",
  migrations: { path: process.env.MIGRATIONS ?? "prisma/migrations" },
  adapter: async () => adapter(),
});
