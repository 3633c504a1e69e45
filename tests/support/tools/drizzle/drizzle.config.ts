import { defineConfig } from "drizzle-kit";

export default defineConfig({
  dialect: "postgresql",
  out: process.env.MIGRATIONS ?? "./drizzle",
  dbCredentials: { url: process.env.DATABASE_URL! },
});
