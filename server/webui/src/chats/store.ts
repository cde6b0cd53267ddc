// Where conversations are kept: IndexedDB of this browser. Where it has none (some private
// windows), they last as long as the page.

import type { Conversation } from "./conversation";

const NAME = "slotmux";
const TABLE = "conversations";

export interface Store {
  readonly isKept: boolean;
  all(): Promise<Conversation[]>;
  get(id: string): Promise<Conversation | undefined>;
  put(conversation: Conversation): Promise<void>;
  remove(id: string): Promise<void>;
}

export async function openStore(): Promise<Store> {
  try {
    return new Kept(await open());
  } catch {
    return new Fleeting();
  }
}

function open(): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(TABLE, { keyPath: "id" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    request.onblocked = () => reject(new Error("the database is held by another page"));
  });
}

class Kept implements Store {
  readonly isKept = true;
  constructor(private readonly db: IDBDatabase) {}

  all(): Promise<Conversation[]> {
    return this.ask("readonly", (table) => table.getAll() as IDBRequest<Conversation[]>);
  }
  get(id: string): Promise<Conversation | undefined> {
    return this.ask("readonly", (table) => table.get(id) as IDBRequest<Conversation | undefined>);
  }
  async put(conversation: Conversation): Promise<void> {
    await this.ask("readwrite", (table) => table.put(conversation));
  }
  async remove(id: string): Promise<void> {
    await this.ask("readwrite", (table) => table.delete(id));
  }

  private ask<T>(
    mode: IDBTransactionMode,
    make: (table: IDBObjectStore) => IDBRequest<T>,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      const transaction = this.db.transaction(TABLE, mode);
      const request = make(transaction.objectStore(TABLE));
      transaction.oncomplete = () => resolve(request.result);
      transaction.onabort = () => reject(transaction.error);
      transaction.onerror = () => reject(transaction.error);
    });
  }
}

class Fleeting implements Store {
  readonly isKept = false;
  private readonly map = new Map<string, Conversation>();

  all(): Promise<Conversation[]> {
    return Promise.resolve([...this.map.values()]);
  }
  get(id: string): Promise<Conversation | undefined> {
    return Promise.resolve(this.map.get(id));
  }
  put(conversation: Conversation): Promise<void> {
    this.map.set(conversation.id, conversation);
    return Promise.resolve();
  }
  remove(id: string): Promise<void> {
    this.map.delete(id);
    return Promise.resolve();
  }
}
