// Before anything is shown, so that no other colours flash.
try {
  const theme = localStorage.getItem("tunesmith-theme");
  if (theme) document.documentElement.dataset.theme = theme;
} catch {
  // The browser keeps nothing; the system's colours are shown.
}
