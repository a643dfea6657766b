import asyncio, sys
from aiosmtpd.smtp import SMTP


class Handler:
    async def handle_DATA(self, server, session, envelope):
        for line in envelope.content.decode().splitlines():
            if line.startswith("Subject: "):
                return "250 " + line.removeprefix("Subject: ")
        return "554 no subject"


async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(Handler()), "127.0.0.1", int(sys.argv[1]), backlog=500)
    await server.serve_forever()


asyncio.run(main())
