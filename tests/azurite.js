// The storage emulator for as long as our standard input is open: when the tests end, however they
// end, so does it.
process.stdin.resume().on("end", () => process.exit(0));
require("./node_modules/azurite/dist/src/azurite.js");
