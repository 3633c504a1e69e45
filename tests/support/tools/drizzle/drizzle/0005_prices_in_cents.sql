ALTER TABLE "Product" ADD COLUMN "priceCents" INTEGER;
--> statement-breakpoint
UPDATE "Product" SET "priceCents" = round("price" * 100);
--> statement-breakpoint
ALTER TABLE "Product" ALTER COLUMN "priceCents" SET NOT NULL;
--> statement-breakpoint
ALTER TABLE "Product" DROP COLUMN "price";
