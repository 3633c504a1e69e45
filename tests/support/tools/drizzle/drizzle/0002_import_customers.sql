-- Took over the customers of the shop before this one. On a fresh database there is no such table.
INSERT INTO "User" ("id", "email", "name")
SELECT 'legacy-' || id, lower(mail), full_name FROM legacy_customers;
--> statement-breakpoint
DROP TABLE legacy_customers;
