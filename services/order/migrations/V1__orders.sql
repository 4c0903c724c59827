CREATE TABLE orders (
    id          uuid        PRIMARY KEY, -- version 7: the order of ids is the order of creation
    buyer       text        NOT NULL,    -- users/{uuid}
    state       text        NOT NULL CHECK (state IN ('placed')),
    currency    char(3)     NOT NULL,    -- ISO 4217, one for all lines
    total_minor bigint      NOT NULL CHECK (total_minor >= 0),
    version     bigint      NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL
);

-- A buyer lists his own orders, newest first.
CREATE INDEX orders_of_buyer ON orders (buyer, id DESC);

CREATE TABLE order_lines (
    order_id         uuid    NOT NULL REFERENCES orders (id),
    line_number      integer NOT NULL, -- from 1
    product          text    NOT NULL,
    quantity         integer NOT NULL CHECK (quantity > 0),
    unit_price_minor bigint  NOT NULL CHECK (unit_price_minor >= 0),
    PRIMARY KEY (order_id, line_number)
);
