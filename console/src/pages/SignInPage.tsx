import { useState, type FormEvent } from "react";
import type { Provider } from "../api/console";
import { Button, LinkButton } from "../ui/basics";
import { TextField } from "../ui/fields";

export function SignInPage({
  providers,
  signIn,
  error,
}: {
  providers: Provider[];
  signIn: (key: string) => Promise<void>;
  error: string | undefined;
}) {
  const [key, setKey] = useState("");
  const [isBusy, setBusy] = useState(false);
  const submit = async (event: FormEvent): Promise<void> => {
    event.preventDefault();
    setBusy(true);
    await signIn(key.trim());
    setBusy(false);
  };
  return (
    <main className="sign-in">
      <form className="card" onSubmit={(event) => void submit(event)}>
        <div className="brand">
          <img src="./icon.svg" alt="" width="36" height="36" />
          <h1>Tunesmith</h1>
        </div>
        {providers.map((provider) => (
          <LinkButton key={provider.url} look="primary" href={provider.url}>
            Sign in with {provider.name}
          </LinkButton>
        ))}
        {providers.length > 0 && <p className="or muted">or</p>}
        <TextField
          label="API key"
          type="password"
          autoComplete="off"
          spellCheck={false}
          autoFocus
          required
          placeholder="sk-ts-…"
          hint="It is kept in this tab only, and forgotten when the tab is closed."
          error={error}
          value={key}
          onChange={(event) => setKey(event.target.value)}
        />
        <Button type="submit" look={providers.length > 0 ? "plain" : "primary"} isBusy={isBusy}>
          Sign in
        </Button>
      </form>
    </main>
  );
}
