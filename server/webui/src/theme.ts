// Light, dark, or as the system has it.

const NAME = "slotmux.theme";
const CHOICES = ["system", "light", "dark"];

export function applyTheme(): void {
  const choice = currentTheme();
  document.documentElement.dataset["theme"] = choice;
}

export function currentTheme(): string {
  const kept = localStorage.getItem(NAME);
  return kept !== null && CHOICES.includes(kept) ? kept : "system";
}

export function setTheme(choice: string): void {
  localStorage.setItem(NAME, choice);
  applyTheme();
}
