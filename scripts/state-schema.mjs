#!/usr/bin/env node
// Prints docs/state.schema.json anew from src/state/schema.ts (as it was last built); a test sees that the two agree.
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { stateSchemaText } from '../dist/state/schema.js';

writeFileSync(fileURLToPath(new URL('../docs/state.schema.json', import.meta.url)), stateSchemaText());
