import { useState } from "react";
import { useServices } from "./api/services";
import { type Feed, ORDERS_TOPIC, USERS_TOPIC } from "./feed/feed";
import { Pane } from "./feed/pane";
import type { EventRow } from "./feed/row";
import { CreateOrder } from "./orders/create-order";
import { describeOrder } from "./orders/describe";
import { Button } from "./ui/button";
import { Copy } from "./ui/copy";
import { Sheet } from "./ui/sheet";
import { CreateUser } from "./users/create-user";
import { describeUser } from "./users/describe";
import { useValue } from "./value";

interface LiveProps {
  readonly feed: Feed;
  readonly selectedKey: string | null;
  readonly onSelect: (row: EventRow) => void;
}

/** The two streams side by side, each with the form that makes its next event. */
export function Live({ feed, selectedKey, onSelect }: LiveProps) {
  const { config, own } = useServices();
  const names = useValue(own.names);
  const loaded = useValue(feed.loaded);
  const [form, setForm] = useState<"user" | "order" | null>(null);
  const users = feed.lane(USERS_TOPIC);
  const orders = feed.lane(ORDERS_TOPIC);
  const close = () => setForm(null);
  return (
    <div className="panes">
      {users && (
        <Pane
          lane={users}
          title="Users"
          shape="circle"
          loaded={loaded}
          selectedKey={selectedKey}
          own={names}
          describe={ofUser}
          onSelect={onSelect}
          action={<Button onClick={() => setForm("user")}>New user</Button>}
          empty={<Empty what="user" line={userLine(config.userServiceUrl)} />}
        />
      )}
      {orders && (
        <Pane
          lane={orders}
          title="Orders"
          shape="square"
          loaded={loaded}
          selectedKey={selectedKey}
          own={names}
          describe={ofOrder}
          onSelect={onSelect}
          action={<Button onClick={() => setForm("order")}>New order</Button>}
          empty={<Empty what="order" line={orderLine(config.orderServiceUrl)} />}
        />
      )}
      {form === "user" && (
        <Sheet title="New user" onClose={close}>
          <CreateUser onCreated={close} />
        </Sheet>
      )}
      {form === "order" && (
        <Sheet title="New order" onClose={close}>
          <CreateOrder onCreated={close} />
        </Sheet>
      )}
    </div>
  );
}

const ofUser = ({ event }: EventRow) => describeUser(event);
const ofOrder = ({ event }: EventRow) => describeOrder(event);

/** An empty list teaches how to fill it. */
function Empty({ what, line }: { what: "user" | "order"; line: string }) {
  return (
    <>
      <h3>No {what} yet</h3>
      <p className="quiet">
        Press <b>New {what}</b>, or send one from a terminal
        {what === "order" && " with the access token of a sign-in in $TOKEN"}:
      </p>
      <Copy text={line} label="the command" />
    </>
  );
}

function userLine(url: string): string {
  const request = {
    user: { display_name: "Ada", email: "ada@example.com" },
    password: "correct horse",
  };
  return grpcurl(url, "", request, "tailrace.user.v1.UserService/CreateUser");
}

function orderLine(url: string): string {
  const request = {
    order: { lines: [{ product: "Tea", quantity: 2, unit_price: { currency_code: "EUR", units: 3 } }] },
  };
  return grpcurl(
    url,
    '-H "authorization: Bearer $TOKEN" ',
    request,
    "tailrace.order.v1.OrderService/CreateOrder",
  );
}

function grpcurl(url: string, headers: string, request: object, method: string): string {
  const { host, protocol } = new URL(url);
  const plain = protocol === "http:" ? "-plaintext " : "";
  return `grpcurl ${plain}${headers}-d '${JSON.stringify(request)}' ${host} ${method}`;
}
