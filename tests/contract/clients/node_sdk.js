// Drives the local server with the Node SDK; prints what each call got, as JSON.
// Usage: node node_sdk.js ADDRESS KEY REQUESTS, where REQUESTS is a JSON list of [method, body].
const { HttpClient, MilvusClient } = require('@zilliz/milvus2-sdk-node');

const [address, token, requests] = process.argv.slice(2);

async function main() {
  const http = new HttpClient({ endpoint: address, token });
  const answers = [];
  for (const [method, body] of JSON.parse(requests)) {
    try {
      answers.push(await http[method](body));
    } catch (error) {
      answers.push({ status: error.status, message: error.message });
    }
  }
  const grpc = new MilvusClient({ address: address.replace('http://', ''), token });
  await grpc.connectPromise;
  const databases = (await grpc.listDatabases()).db_names;
  const collections = (await grpc.showCollections()).data.map(collection => collection.name);
  await grpc.closeConnection();
  console.log(JSON.stringify({ answers, databases, collections }));
}

main();
