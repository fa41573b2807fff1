import type { ReactNode } from "react";
import { getModelDetail, type ModelDetail } from "../../api/console";
import { baseOf, kindOf } from "../../api/models";
import { formatAgo, formatDollars, formatNumber, wordsOf } from "../../format";
import { useQuery } from "../../hooks/useQuery";
import { linkTo } from "../../router";
import { useSession } from "../../session";
import { Card, ErrorText, Facts, Header, LinkButton, Loading } from "../../ui/basics";
import { Snippets } from "../playground/Snippets";
import { Revisions } from "./Revisions";

const POLL_MILLISECONDS = 5000;

/** One model: what it is, what serves it, and how it is asked. */
export function ModelPage({ name }: { name: string }) {
  const { canChange } = useSession();
  const { data, error, isLoading, reload } = useQuery((signal) => getModelDetail(name, signal), [name], {
    every: POLL_MILLISECONDS,
  });
  return (
    <>
      <Header
        title={<span className="mono title-name">{name}</span>}
        note={kindOf(name) === "base" ? "Base model" : "Fine-tuned model"}
      >
        {canChange && kindOf(name) === "base" && (
          <LinkButton href={linkTo(["new"], { model: name })}>Fine-tune</LinkButton>
        )}
        <LinkButton look="primary" href={linkTo(["playground"], { model: name })}>
          Try it
        </LinkButton>
      </Header>
      <ErrorText error={error} />
      {isLoading && <Loading />}
      {data !== undefined && (
        <Card title="About">
          <Facts items={factsOf(name, data ?? {})} />
          {data?.rollout?.message && <p className="muted">{data.rollout.message}</p>}
        </Card>
      )}
      <Revisions name={name} detail={{ ...data, own: canChange && data?.own !== false }} onChange={reload} />
      <Card title="Ask it">
        <Snippets model={name} />
      </Card>
    </>
  );
}

function factsOf(name: string, detail: ModelDetail): [string, ReactNode][] {
  const items: [string, ReactNode][] = [["Base model", detail.base ?? baseOf(name)]];
  if (detail.aliases?.length) items.push(["Also called", detail.aliases.join(", ")]);
  if (detail.jobId)
    items.push([
      "Job",
      <a className="mono" href={linkTo(["jobs", detail.jobId])}>
        {detail.jobId}
      </a>,
    ]);
  if (detail.method) items.push(["Fine-tuned by", detail.method]);
  if (detail.contextLength) items.push(["Context", `${formatNumber(detail.contextLength)} tokens`]);
  for (const [kind, price] of Object.entries(detail.price ?? {})) {
    items.push([`${wordsOf(kind)}, a million tokens`, formatDollars(price)]);
  }
  if (detail.wanted) items.push(["State", stateOf(detail)]);
  if (detail.replicas && detail.replicas.now > 0)
    items.push(["Replicas ready", `${detail.replicas.ready} of ${detail.replicas.now}`]);
  if (detail.lastUsedAt) items.push(["Last asked", formatAgo(detail.lastUsedAt)]);
  return items;
}

function stateOf(detail: ModelDetail): string {
  if (detail.isServed) return "Awake";
  return detail.wanted === "awake" ? "Waking" : "Asleep; the first question wakes it";
}
