ALTER TABLE "Product" ADD COLUMN "priceCents" INTEGER;
UPDATE "Product" SET "priceCents" = round("price" * 100);
ALTER TABLE "Product" ALTER COLUMN "priceCents" SET NOT NULL;
ALTER TABLE "Product" DROP COLUMN "price";
