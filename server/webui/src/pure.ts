// What needs no browser, for `node --test`.
export * from "./chats/conversation";
export { decodeEntities } from "./text/entities";
export { highlight } from "./text/highlight";
export { Growing, parse, safeAddress } from "./text/markdown";
export { decades, scale, steps } from "./board/scale";
export { EventReader } from "./server/sse";
export { exported, imported } from "./chats/transfer";
