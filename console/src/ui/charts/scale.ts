/** The arithmetic of charts. */

/** Return round numbers that divide a range into about so many parts. */
export function ticksOf(least: number, most: number, about: number): number[] {
  const span = most - least;
  if (!(span > 0)) return [least];
  const rough = span / about;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = ([1, 2, 5, 10].find((factor) => factor * power >= rough) ?? 10) * power;
  const first = Math.ceil(least / step - 1e-9);
  const last = Math.floor(most / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, index) => Number(((first + index) * step).toPrecision(12)));
}

/** Return the range of values, never an empty one, with a little room around it. */
export function rangeOf(values: number[], fromZero: boolean): [number, number] {
  const least = fromZero ? 0 : Math.min(...values);
  const most = Math.max(...values);
  if (most > least) {
    const room = (most - least) * 0.06;
    return [fromZero ? 0 : least - room, most + room];
  }
  const room = Math.abs(most) * 0.1 || 1;
  return fromZero ? [0, most || 1] : [least - room, most + room];
}

export const scaled =
  (from: [number, number], to: [number, number]) =>
  (value: number): number =>
    to[0] + ((value - from[0]) / (from[1] - from[0])) * (to[1] - to[0]);
