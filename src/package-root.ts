import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** The folder of package.json, above `src/` and `dist/`: how far depends on whether this module was bundled. */
export const packageRoot = findPackageRoot(import.meta.dirname);

function findPackageRoot(folder: string): string {
  return existsSync(join(folder, 'package.json')) ? folder : findPackageRoot(dirname(folder));
}
