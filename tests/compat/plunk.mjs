// The calls of @plunk/node: plunk.mjs BASE KEY < [[resource, method, argument], ...]; prints what each gave or threw, as JSON.
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
const Plunk = createRequire(process.env.PEERS + '/')('@plunk/node').default;
const [, , baseUrl, key] = process.argv;
const client = new Plunk(key, { baseUrl });
const answers = [];
for (const [resource, method, argument] of JSON.parse(readFileSync(0))) {
  try {
    answers.push({ given: await client[resource][method](argument) });
  } catch (error) {
    answers.push({ thrown: error.constructor.name, message: error.message });
  }
}
console.log(JSON.stringify(answers));
