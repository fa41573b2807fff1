/** Icons of 20 by 20, drawn by lines in the text's colour. */

function icon(path: string) {
  return function Icon() {
    return (
      <svg className="icon" viewBox="0 0 20 20" aria-hidden="true">
        <path d={path} />
      </svg>
    );
  };
}

export const JobsIcon = icon("M3 16V9M7.7 16V4M12.3 16v-5M17 16V7");
export const NewIcon = icon("M10 4v12M4 10h12");
export const ModelsIcon = icon(
  "M10 2.8 16.5 6.3v7.4L10 17.2l-6.500-3.500V6.300zM3.700 6.500 10 10l6.300-3.500M10 10v7",
);
export const PlaygroundIcon = icon("M3.500 4.500h13v9h-7l-3.500 3v-3h-2.500zM7 8h6M7 10.500h4");
export const FilesIcon = icon("M5 2.800h6.500L15.500 7v10.200H5zM11.300 3v4.200h4");
export const UsageIcon = icon("M3 16.500h14M4 12.500l4-4 3 2.500 5-6");
export const KeysIcon = icon("M7 16a3.500 3.500 0 1 0 0-7 3.500 3.500 0 0 0 0 7zM9.500 10 16.500 3M14 5.500l2 2");
export const CloseIcon = icon("M5 5l10 10M15 5 5 15");
export const MenuIcon = icon("M3 6h14M3 10h14M3 14h14");
export const CopyIcon = icon("M7 7h9v9H7zM4 13V4h9");
export const CheckIcon = icon("M4 10.500 8 14.500 16 6");
export const UploadIcon = icon("M10 13V4M6 7.500 10 3.500l4 4M4 13v3.500h12V13");
export const SignOutIcon = icon("M8 4H4v12h4M9 10h8M14 7l3 3-3 3");
