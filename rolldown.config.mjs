/**
 * arca-relay and its libraries as a few files, in the place of the hundred that it would load: a relay is started for
 * each attachment, and most of its start was the finding and reading of modules. What is loaded late stays apart.
 */
import { defineConfig } from 'rolldown';

export default defineConfig({
  input: 'src/cli/arca-relay.ts',
  platform: 'node',
  output: {
    dir: 'dist/cli',
    chunkFileNames: 'arca-relay/[name].js',
    sourcemap: true,
  },
});
