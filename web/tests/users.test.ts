import { create, toJsonString } from "@bufbuild/protobuf";
import { EventSchema, UserCreatedSchema, UserUpdatedSchema } from "@tailrace/sdk";
import { expect, it } from "vitest";
import { describeUser } from "../src/users/describe";

const say = (type: string, json: string) =>
  describeUser(create(EventSchema, { type, payload: new TextEncoder().encode(json) }));

it.each([
  [
    "users.created.v1",
    toJsonString(UserCreatedSchema, create(UserCreatedSchema, { displayName: "Ada" })),
    "Ada",
  ],
  [
    "users.updated.v1",
    toJsonString(UserUpdatedSchema, create(UserUpdatedSchema, { displayName: "Ada" })),
    "Changed · Ada",
  ],
  ["users.deleted.v1", "{}", "Deleted"],
  ["users.updated.v1", "not JSON", "users.updated.v1"],
  ["users.created.v1", "{}", "users.created.v1"],
])("a row about %s with %s says %s", (type, json, text) => {
  expect(say(type, json)).toBe(text);
});
