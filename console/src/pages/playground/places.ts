import { baseOf, kindOf, previousOf } from "../../api/models";
import type { Model } from "../../api/types";

/** The places beside each other, and what stands in each at first. */
export const PLACES = ["Base", "Fine-tuned", "Previous"] as const;

/** Return the models of the places: the one that is asked for or else the newest tuned one, and those to compare it with. */
export function firstModels(models: Model[], wanted: string | null): string[] {
  const tuned = models.filter(({ id }) => kindOf(id) === "tuned").sort((one, other) => other.created - one.created);
  const chosen = wanted ?? tuned[0]?.id ?? models[0]?.id;
  if (chosen === undefined) return ["", "", ""];
  if (kindOf(chosen) === "base") return [chosen, tuned.find(({ id }) => baseOf(id) === chosen)?.id ?? "", ""];
  const base = models.find(({ id }) => id === baseOf(chosen))?.id ?? "";
  return [base, chosen, previousOf(chosen, models) ?? ""];
}
