-- An order can be cancelled, which is final.
ALTER TABLE orders
    DROP CONSTRAINT orders_state_check,
    ADD CONSTRAINT orders_state_check CHECK (state IN ('placed', 'cancelled'));
