import { Fragment, useEffect } from "react";
import { Shell } from "./Shell";
import { FilePage } from "./pages/files/FilePage";
import { FilesPage } from "./pages/files/FilesPage";
import { JobPage } from "./pages/job/JobPage";
import { JobsPage } from "./pages/jobs/JobsPage";
import { KeysPage } from "./pages/keys/KeysPage";
import { ModelPage } from "./pages/models/ModelPage";
import { ModelsPage } from "./pages/models/ModelsPage";
import { NewJobPage } from "./pages/newjob/NewJobPage";
import { PlaygroundPage } from "./pages/playground/PlaygroundPage";
import { SignInPage } from "./pages/SignInPage";
import { UsagePage } from "./pages/usage/UsagePage";
import { goTo, useRoute } from "./router";
import { SessionProvider } from "./session";
import { Empty, Header } from "./ui/basics";
import { NoticeProvider } from "./ui/notices";

export function App() {
  return (
    <NoticeProvider>
      <SessionProvider
        signedOut={(providers, signIn, error) => <SignInPage providers={providers} signIn={signIn} error={error} />}
      >
        <Screens />
      </SessionProvider>
    </NoticeProvider>
  );
}

function Screens() {
  const { path, query } = useRoute();
  const [section, id] = path;
  useEffect(() => {
    if (section === undefined) goTo(["jobs"]);
  }, [section]);
  // A screen for another object, or for another start of the form, begins anew.
  return (
    <Shell section={section} screen={path.join("/")}>
      <Fragment key={path.join("/") + query}>{screenOf(section, id, query)}</Fragment>
    </Shell>
  );
}

function screenOf(section: string | undefined, id: string | undefined, query: URLSearchParams) {
  switch (section) {
    case undefined:
      return null;
    case "jobs":
      return id === undefined ? <JobsPage /> : <JobPage id={id} />;
    case "new":
      return <NewJobPage from={query.get("from")} file={query.get("file")} model={query.get("model")} />;
    case "models":
      return id === undefined ? <ModelsPage /> : <ModelPage name={id} />;
    case "playground":
      return <PlaygroundPage model={query.get("model")} />;
    case "files":
      return id === undefined ? <FilesPage /> : <FilePage id={id} />;
    case "usage":
      return <UsagePage />;
    case "keys":
      return <KeysPage />;
    default:
      return (
        <>
          <Header title="There is no such screen" />
          <Empty title="The address names a screen that the console does not have.">Choose one from the list.</Empty>
        </>
      );
  }
}
