CREATE TABLE "Order" (
    "id" TEXT NOT NULL,
    "claimCode" TEXT NOT NULL,
    "status" TEXT NOT NULL DEFAULT 'pending',
    "userId" TEXT REFERENCES "User"("id"),

    CONSTRAINT "Order_pkey" PRIMARY KEY ("id")
);
