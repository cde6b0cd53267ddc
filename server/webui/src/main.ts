// The page: what there is, what is shown, what the address says.

import { announce } from "./announce";
import { Board } from "./board/board";
import { ChatView, documentTitle } from "./chat/chat";
import { Composer } from "./chat/composer";
import { Models } from "./chat/models";
import { openSettings } from "./chat/settings";
import { Sidebar } from "./chat/sidebar";
import { Chats, type Listener } from "./chats/chats";
import type { Message } from "./chats/conversation";
import type { Run } from "./chats/run";
import { openStore, type Store } from "./chats/store";
import { exported, imported } from "./chats/transfer";
import { askText, confirm } from "./dialogs";
import { append, byId, icon, type IconName } from "./dom";
import { applyTheme, currentTheme, setTheme } from "./theme";

const TOAST_MS = 6000;

class Page implements Listener {
  private readonly chats: Chats;
  private readonly sidebar: Sidebar;
  private readonly chat: ChatView;
  private readonly composer: Composer;
  private readonly board: Board;
  private readonly models: Models;
  private toastTimer = 0;

  constructor(store: Store) {
    this.chats = new Chats(store, this);
    this.sidebar = new Sidebar(this.chats);
    this.composer = new Composer(
      (text) => this.chats.send(text),
      () => this.chats.stop(),
    );
    this.chat = new ChatView(this.chats, this.composer);
    this.models = new Models(this.chats, () => this.onKnown());
    this.board = new Board(byId("board"), this.chats, () => this.models.query);
    this.chat.offerStarters();
    if (!store.isKept) this.onProblem("This browser keeps nothing: conversations last until you leave.");
    this.connect();
  }

  async start(): Promise<void> {
    await this.chats.load(conversationOf(location.hash));
    window.addEventListener("hashchange", () => this.route());
    this.route();
    void this.models.greet();
  }

  // -- what the conversations tell

  onList(): void {
    this.sidebar.show(!this.isBoard);
  }

  onPath(): void {
    this.models.show();
    this.chat.show();
    this.sidebar.show(!this.isBoard);
    const { current } = this.chats;
    const isKept = this.chats.all.includes(current);
    for (const id of ["rename", "export", "delete"]) byId<HTMLButtonElement>(id).disabled = !isKept;
    if (this.isBoard) return;
    const hash = isKept ? `#chat/${current.id}` : "#chat";
    const isNowhere = ["", "#", "#chat"].includes(location.hash);
    if (location.hash === hash) return this.setTitle();
    if (isNowhere) history.replaceState(null, "", hash);
    else history.pushState(null, "", hash);
    this.setTitle();
  }

  private setTitle(): void {
    const { current } = this.chats;
    document.title = documentTitle(current.title);
  }

  private onKnown(): void {
    this.chat.nCtx = this.models.nCtx;
    this.chat.show();
  }

  onGrown(message: Message): void {
    this.chat.onGrown(message);
  }

  onEnd(run: Run): void {
    this.chat.onEnd(run);
    this.onList();
  }

  onProblem(text: string): void {
    const toast = byId("toast");
    toast.textContent = text;
    toast.hidden = false;
    clearTimeout(this.toastTimer);
    this.toastTimer = setTimeout(() => (toast.hidden = true), TOAST_MS);
  }

  // -- what the address says

  private get isBoard(): boolean {
    return location.hash === "#board";
  }

  private route(): void {
    const { isBoard } = this;
    byId("chat-view").hidden = isBoard;
    byId("board-view").hidden = !isBoard;
    for (const id of ["to-chat", "to-board"]) {
      const isHere = (id === "to-board") === isBoard;
      if (isHere) byId(id).setAttribute("aria-current", "page");
      else byId(id).removeAttribute("aria-current");
    }
    this.closeDrawer();
    if (isBoard) {
      document.title = "Board – slotmux";
      this.board.start();
      this.onList();
      return;
    }
    this.board.stop();
    const id = conversationOf(location.hash);
    if (id !== null) this.chats.select(id);
    this.onPath();
  }

  // -- what the user does

  private connect(): void {
    const on = (id: string, act: () => void) => byId(id).addEventListener("click", act);
    on("new", () => {
      this.chats.create();
      if (this.isBoard) location.hash = "#chat";
      this.closeDrawer();
      this.composer.focus();
    });
    on("rename", () => void this.rename());
    on("delete", () => void this.delete());
    on("export", () => this.save([this.chats.current], `${fileName(this.chats.current.title)}.json`));
    on("export-all", () => this.save(this.chats.all, "slotmux-conversations.json"));
    on("import", () => byId<HTMLInputElement>("import-file").click());
    byId("import-file").addEventListener("change", () => void this.import());
    on("settings", () =>
      openSettings(this.chats.current.settings, this.models.defaults, (s) => this.chats.setSettings(s)),
    );
    for (const id of ["menu-chat", "menu-board"]) on(id, () => this.openDrawer());
    byId("sidebar").addEventListener("click", (event) => {
      if ((event.target as Element).closest("a")) this.closeDrawer();
    });
    on("scrim", () => this.closeDrawer());
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && document.body.classList.contains("drawer")) this.closeDrawer();
    });
    const theme = byId<HTMLSelectElement>("theme");
    theme.value = currentTheme();
    theme.addEventListener("change", () => setTheme(theme.value));
    // A link of the page itself must not become an address of a conversation.
    on("skip", () => setTimeout(() => byId(this.isBoard ? "board" : "prompt").focus()));
  }

  private async rename(): Promise<void> {
    const title = await askText("Rename the chat", "Title", this.chats.current.title);
    if (!title) return;
    this.chats.rename(title);
    this.onPath();
  }

  private async delete(): Promise<void> {
    const { current } = this.chats;
    const text = `“${current.title}” will be gone from this browser.`;
    if (!(await confirm("Delete the chat?", text, "Delete"))) return;
    await this.chats.remove(current);
    announce("The chat was deleted.");
    this.composer.focus();
  }

  private save(conversations: Chats["all"], name: string): void {
    const url = URL.createObjectURL(new Blob([exported(conversations)], { type: "application/json" }));
    const link = document.createElement("a");
    link.href = url;
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  }

  private async import(): Promise<void> {
    const input = byId<HTMLInputElement>("import-file");
    const file = input.files?.[0];
    if (file === undefined) return;
    try {
      const conversations = imported(await file.text());
      await this.chats.take(conversations);
      announce(`${conversations.length} conversations were imported.`);
    } catch (error) {
      this.onProblem((error as Error).message);
    }
    input.value = "";
  }

  private openDrawer(): void {
    document.body.classList.add("drawer");
    this.setBehind(true);
    for (const id of ["menu-chat", "menu-board"]) byId(id).setAttribute("aria-expanded", "true");
    byId("new").focus();
  }

  private closeDrawer(): void {
    if (!document.body.classList.contains("drawer")) return;
    document.body.classList.remove("drawer");
    this.setBehind(false);
    for (const id of ["menu-chat", "menu-board"]) byId(id).setAttribute("aria-expanded", "false");
    byId(this.isBoard ? "menu-board" : "menu-chat").focus();
  }

  /** What the drawer covers cannot be reached while it is open. */
  private setBehind(isBehind: boolean): void {
    for (const id of ["chat-view", "board-view", "skip"]) byId(id).inert = isBehind;
  }
}

function conversationOf(hash: string): string | null {
  return /^#chat\/(\w+)$/.exec(hash)?.[1] ?? null;
}

function fileName(title: string): string {
  return title.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").toLowerCase() || "chat";
}

/** Buttons of the document say by data-icon what they show. */
function placeIcons(): void {
  for (const element of document.querySelectorAll<HTMLElement>("[data-icon]")) {
    const text = [...element.childNodes];
    element.replaceChildren(icon(element.dataset["icon"] as IconName));
    append(element, text);
  }
}

applyTheme();
placeIcons();
void openStore().then((store) => new Page(store).start());
