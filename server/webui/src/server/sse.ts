// Events of a stream, out of pieces that may end anywhere.

export class EventReader {
  private buffer = "";

  /** The data of the events that are complete with this piece, in order. */
  push(piece: string): string[] {
    const lines = (this.buffer + piece).split(/\r\n|\n|\r(?!$)/);
    this.buffer = lines.pop() ?? "";
    return lines.flatMap((line) => (line.startsWith("data:") ? [line.slice(5).trimStart()] : []));
  }
}
