CREATE TYPE "OrderStatus" AS ENUM ('PENDING', 'PAID', 'SHIPPED', 'CLAIMED', 'CANCELLED');
--> statement-breakpoint
ALTER TABLE "Order" ALTER COLUMN "status" DROP DEFAULT;
--> statement-breakpoint
ALTER TABLE "Order" ALTER COLUMN "status" TYPE "OrderStatus" USING upper("status")::"OrderStatus";
--> statement-breakpoint
ALTER TABLE "Order" ALTER COLUMN "status" SET DEFAULT 'PENDING';
