// Calls an API through the socket of its upstream, by the libraries that people use. None of them has the key.
// One word a line on standard output for each that got the answer.
const http = require('node:http');
const { Agent, request } = require('undici');
const OpenAI = require('openai');
const Anthropic = require('@anthropic-ai/sdk');
const Stripe = require('stripe');

const socketPath = process.argv[2];
const dispatcher = new Agent({ connect: { socketPath } });
const none = 'not-the-key';

async function main() {
    const plain = await request('http://localhost/v1/balance', { dispatcher });
    console.log('undici', (await plain.body.json()).text);

    const openai = new OpenAI({ apiKey: none, baseURL: 'http://localhost/v1', fetchOptions: { dispatcher }, maxRetries: 0 });
    const chat = await openai.chat.completions.create({ model: 'm', messages: [{ role: 'user', content: 'hi' }] });
    console.log('openai', chat.choices[0].message.content);

    const anthropic = new Anthropic({ apiKey: none, baseURL: 'http://localhost', fetchOptions: { dispatcher }, maxRetries: 0 });
    const message = await anthropic.messages.create({ model: 'm', max_tokens: 1, messages: [{ role: 'user', content: 'hi' }] });
    console.log('anthropic', message.content[0].text);

    const stripe = new Stripe(none, { httpAgent: new http.Agent({ socketPath }), protocol: 'http', host: 'localhost', maxNetworkRetries: 0 });
    console.log('stripe', (await stripe.balance.retrieve()).text);
}

main().then(() => dispatcher.close(), (error) => {
    console.error(error);
    process.exitCode = 1;
});
