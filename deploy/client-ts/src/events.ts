// Server-sent events as they arrive (the HTML standard, section 9.2.6), in pieces that may end
// anywhere. Not the browser's EventSource: that one cannot send a token.

import { CalderaError } from "./error.js";

/** One event. */
export interface SentEvent {
  event: string;
  data: string;
}

/** Takes text in and gives events out. */
export class EventParser {
  #rest = "";
  #event = "";
  #data: string[] = [];
  #size = 0;
  #begun = false;

  /** What is complete after this text. */
  push(text: string): SentEvent[] {
    if (!this.#begun && text.length > 0) {
      this.#begun = true;
      text = text.replace(/^\uFEFF/, "");
    }
    this.#rest += text;
    const events: SentEvent[] = [];
    // A CR at the very end may be the first half of a line end.
    const line = /([^\r\n]*)(\r\n|\n|\r(?!$))/gy;
    let end = 0;
    for (let match = line.exec(this.#rest); match !== null; match = line.exec(this.#rest)) {
      end = line.lastIndex;
      const event = this.#line(match[1]!);
      if (event !== undefined) {
        events.push(event);
      }
    }
    this.#rest = this.#rest.slice(end);
    if (this.#rest.length + this.#size > EVENT_SIZE_MAX) {
      const message = `an event: expected at most ${EVENT_SIZE_MAX} characters, got more`;
      throw new CalderaError(message, { reason: "answer" });
    }
    return events;
  }

  #line(line: string): SentEvent | undefined {
    if (line === "") {
      const event = { event: this.#event || "message", data: this.#data.join("\n") };
      const empty = this.#data.length === 0;
      this.#event = "";
      this.#data = [];
      this.#size = 0;
      return empty ? undefined : event;
    }
    const colon = line.indexOf(":");
    const field = colon === -1 ? line : line.slice(0, colon);
    const value = colon === -1 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") {
      this.#event = value;
    } else if (field === "data") {
      this.#data.push(value);
      this.#size += value.length + 1;
    }
    return undefined;
  }
}

/** The largest event is a result, of some kilobytes. */
const EVENT_SIZE_MAX = 4 * 1024 * 1024;
