import { getFile, readStart, saveFile } from "../../api/files";
import { formatBytes, formatMoment } from "../../format";
import { useAction } from "../../hooks/useAction";
import { useQuery } from "../../hooks/useQuery";
import { linkTo } from "../../router";
import { Button, Card, ErrorText, Facts, Header, LinkButton, Loading } from "../../ui/basics";
import { Code } from "../../ui/Code";
import { FileReport } from "./FileReport";

const MOST_SHOWN = 20_000;

/** One file: what it is, what is wrong with it, and how it begins. */
export function FilePage({ id }: { id: string }) {
  const file = useQuery((signal) => getFile(id, signal), [id]);
  const start = useQuery((signal) => readStart(id, MOST_SHOWN, signal), [id]);
  const save = useAction(saveFile);
  const found = file.data;
  const isTraining = found?.purpose === "fine-tune";
  return (
    <>
      <Header title={found?.filename ?? "File"} note={<span className="mono">{id}</span>}>
        {found && (
          <Button isBusy={save.isRunning} onClick={() => void save.run(found)}>
            Download
          </Button>
        )}
        {isTraining && (
          <LinkButton look="primary" href={linkTo(["new"], { file: id })}>
            Fine-tune on it
          </LinkButton>
        )}
      </Header>
      <ErrorText error={file.error} />
      {file.isLoading && <Loading />}
      {found && (
        <Card>
          <Facts
            items={[
              ["Size", formatBytes(found.bytes)],
              ["Purpose", found.purpose],
              ["Created", formatMoment(found.created_at)],
              ["Expires", found.expires_at === null ? "never" : formatMoment(found.expires_at)],
            ]}
          />
        </Card>
      )}
      {isTraining && <FileReport id={id} />}
      <ErrorText error={start.error} />
      {start.data && (
        <Card title="Content" note={start.data.more ? "The beginning; download the file to see all of it." : undefined}>
          <Code text={start.data.text} label="Content of the file" />
        </Card>
      )}
    </>
  );
}
