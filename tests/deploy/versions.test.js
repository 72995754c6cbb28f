// API versions that Azure takes out of service: none may stand in a template in the last days before.
'use strict';

const assert = require('node:assert');
const { readdirSync, readFileSync } = require('node:fs');
const { join } = require('node:path');
const test = require('node:test');

const root = join(__dirname, '../..');
const read = (file) => JSON.parse(readFileSync(join(root, file), 'utf8'));
const { known, retirements } = read('tests/deploy/api-versions.json');

// As long as a release takes to reach everybody who deploys, and a holiday.
const AHEAD = 120;
const DAY = 24 * 3600 * 1000;

const playbooks = readdirSync(join(root, 'sentinel/playbooks')).map((name) => `sentinel/playbooks/${name}/azuredeploy.json`);
const templates = ['azuredeploy.json', 'sentinel/azuredeploy.json', 'sentinel/push/azuredeploy.json', ...playbooks];

// The type of what a call of `reference` names: itself, by a variable, or by what a nested template is given.
function typeOf(subject, scope) {
  const [, kind, name] = /^(variables|parameters)\('(\w+)'\)$/.exec(subject) ?? [];
  const [meant, where] = kind === 'variables' ? [scope.template.variables?.[name], scope] : [scope.given?.[name]?.value, scope.outer];
  if (typeof meant === 'string' && where) return typeOf(meant.replace(/^\[|\]$/g, ''), where);
  return /'(Microsoft\.[^']+)'/.exec(subject)?.[1];
}

// Each type and API version of a template, those of nested resources, `reference` and `list` included.
function used(template, value = template, found = [], scope = { template }) {
  if (typeof value === 'string') {
    for (const [, subject, version] of value.matchAll(/(?:reference|list)\((resourceId\(.*?\)|\w+\('\w+'\)), '(\d{4}-\d\d-\d\d[a-z-]*)'/g)) {
      found.push([typeOf(subject, scope), version]);
    }
  } else if (value && typeof value === 'object') {
    if (typeof value.type === 'string' && typeof value.apiVersion === 'string') found.push([value.type, value.apiVersion]);
    for (const [name, member] of Object.entries(value)) {
      const nested = name === 'template' && { template: member, given: value.parameters, outer: scope };
      used(template, member, found, nested || scope);
    }
  }
  return found;
}

// What is wrong with the versions that are used, on a day.
function retiring(versions, day) {
  return versions.flatMap(([type, version]) => retirements
    .filter(({ types, before, on }) => {
      const near = (Date.parse(on) - Date.parse(day)) / DAY <= AHEAD;
      return type?.startsWith(types) && version < before && near;
    })
    .map(({ before, on, source }) => `API version ${version} of ${type} ends on ${on} (${source}). Move the templates`
      + ` to ${before} or later, and name that version in tests/deploy/api-versions.json. Nothing is broken before that`
      + ' day: to test an older commit as it was, give its day, such as `TODAY=2026-11-29 tests/run`.'));
}

const listed = Object.entries(known).flatMap(([type, versions]) => versions.map((version) => [type, version]));

test('no template uses an API version that ends soon', () => {
  const today = process.env.TODAY;
  assert.match(today ?? '', /^\d{4}-\d\d-\d\d$/, 'TODAY has to be a day such as 2026-11-29; tests/deploy/run gives it');
  for (const file of templates) {
    const versions = used(read(file));
    assert.ok(versions.length > 1, `${file} was not read`);
    assert.deepStrictEqual(retiring(versions, today), [], file);
  }
  assert.deepStrictEqual(retiring(listed, today), [], 'tests/deploy/api-versions.json');
});

test('an old version of Key Vault is found 120 days ahead, and not a day sooner', () => {
  const old = [['Microsoft.KeyVault/vaults', '2023-07-01'], ['Microsoft.KeyVault/vaults/secrets', '2025-05-01']];
  assert.deepStrictEqual(retiring(old, '2026-10-29'), []);
  const found = retiring(old, '2026-10-30');
  assert.strictEqual(found.length, 2);
  assert.match(found[0], /2023-07-01 of Microsoft.KeyVault\/vaults ends on 2027-02-27 .*Move the templates to 2026-02-01/);
  assert.strictEqual(retiring(old, '2030-01-01').length, 2, 'what has ended is found too');
  assert.deepStrictEqual(retiring([['Microsoft.KeyVault/vaults', '2026-02-01']], '2030-01-01'), []);
});

test('versions are found where they are nested and where they are referred to', () => {
  const template = read('azuredeploy.json');
  const at = (type) => used(template).filter(([one]) => one === type).length;
  assert.strictEqual(at('Microsoft.Web/sites/extensions'), 1);
  assert.ok(at('Microsoft.OperationalInsights/workspaces/tables') > 2, 'nested, and asked for what is there');
  assert.ok(at('Microsoft.KeyVault/vaults') > 2, 'the vault, its address, and what is there');
  assert.ok(at('Microsoft.Web/sites/config') > 2, 'what is listed');
  // Its id is a parameter of the whole: nothing says its type.
  assert.deepStrictEqual(used(template).filter(([type]) => !type), [[undefined, '2023-09-01']]);
});

test('every retirement has its day and its source', () => {
  assert.ok(retirements.length > 0);
  for (const { types, before, on, source } of retirements) {
    assert.ok(Object.keys(known).some((type) => type.startsWith(types)), `nothing here is a ${types}`);
    for (const day of [before, on]) assert.match(day, /^\d{4}-\d\d-\d\d$/);
    assert.match(source, /^https:\/\/learn\.microsoft\.com\//);
  }
});
