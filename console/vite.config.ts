import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// `npm run dev` shows the sources over a service that runs on this machine.
const service = process.env.TUNESMITH_HOSTED_URL ?? "http://127.0.0.1:8080";

export default defineConfig({
  base: "./",
  plugins: [react()],
  build: { target: "es2023", modulePreload: { polyfill: false } },
  server: { proxy: { "/v1": service, "/console/api": service } },
});
